"""The commands of real networks: ``compare`` and ``train``."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from meanfield.cli.app import app
from meanfield.cli.files import Dpi, Force, Output, Size, Style, outputs
from meanfield.cli.options import (
    C0,
    PARAMETERS,
    Q0,
    ActivationName,
    Anticorrelation,
    BiasVar,
    SpecialWeightLaw,
    WeightVar,
    number,
    option,
    prior_of,
    special_weight_law,
)
from meanfield.cli.tables import print_comparison, print_study

if TYPE_CHECKING:
    from meanfield.empirical.studies import TrainingStudy

_Seed = Annotated[int, typer.Option(metavar="NUMBER", help="Of everything that is drawn.")]


@app.command("compare")
def _compare(
    weight_var: WeightVar,
    activation: ActivationName = "relu",
    bias_var: BiasVar = "0",
    anticorrelation: Anticorrelation = "0",
    special_weight: SpecialWeightLaw = "none",
    width: Annotated[
        int, typer.Option(metavar="NUMBER", help="Neurons in a layer, and twice as many in the second half.")
    ] = 512,
    depth: Annotated[int, typer.Option(metavar="NUMBER", help="Number of layers.")] = 30,
    networks: Annotated[int, typer.Option(metavar="NUMBER", help="How many of each width.")] = 32,
    q0: Q0 = "1",
    c0: C0 = "0.5",
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="weights: real networks. weightless: the same law without drawing weights, for any width.",
        ),
    ] = "weights",
    seed: _Seed = 0,
    output: Output = None,
    dpi: Dpi = 200,
    size: Size = None,
    style: Style = None,
    force: Force = False,
) -> None:
    """Real networks of finite width beside the theory, in standard errors: a picture and all values.

    Networks of two widths are drawn, so that the 1/width bias can be told from disagreement.

    \b
    Example:
      meanfield compare -a tanh --weight-var 1.5 --bias-var 0.1 --anticorrelation 1 --width 256
    """
    given = dict(zip(PARAMETERS, (weight_var, bias_var, anticorrelation), strict=True))
    parameters = {name: number(name, text) for name, text in given.items()}
    start = {"q0": number("q0", q0), "c0": number("c0", c0)}
    method = method.lower()
    if method not in ("weights", "weightless"):
        raise ValueError(f"--method must be weights or weightless, got {method!r}")

    from meanfield.activations.names import as_activation

    law, phi = special_weight_law(special_weight), as_activation(activation)
    prior = prior_of(parameters, law)
    name = f"compare_{phi!r}" + ("" if law is None else f"_{law!r}")
    files = outputs(output, name, dpi, size, style, force)

    from meanfield.empirical.comparison import compare
    from meanfield.plotting import plot_comparison

    sizes = dict(width=width, depth=depth, networks=networks, seed=seed)
    comparison = compare(phi, prior, method=method, **sizes, **start)
    comparison.save(files.values)
    files.write_picture(lambda: plot_comparison(comparison))
    print_comparison(comparison)
    print(files)


@app.command("train")
def _train(
    task: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="teacher-student, digits, mnist1d or spirals; mnist, fashion-mnist or cifar10 with --data.",
        ),
    ] = "digits",
    initializations: Annotated[
        str,
        typer.Option(
            "--initializations",
            "-i",
            metavar="NAMES",
            help="Separated by commas; the first is what the others are compared with. he, glorot, lecun, "
            'orthogonal, rai, raai, rai_unit_gain, raai_unit_gain, "anticorrelated(kappa)".',
        ),
    ] = "he,orthogonal,anticorrelated(1),rai,raai,rai_unit_gain,raai_unit_gain",
    learning_rates: Annotated[
        str,
        typer.Option(metavar="NUMBERS", help="Separated by commas; each initialisation uses its best one."),
    ] = "0.001,0.003,0.01,0.03,0.1,0.3",
    optimizer: Annotated[
        str, typer.Option(metavar="NAME", help="sgd, momentum, adam, adamw, rmsprop, adagrad or lion.")
    ] = "sgd",
    activation: ActivationName = "relu",
    width: Annotated[int, typer.Option(metavar="NUMBER", help="Neurons in a hidden layer.")] = 64,
    depth: Annotated[int, typer.Option(metavar="NUMBER", help="Hidden layers.")] = 12,
    steps: Annotated[int, typer.Option(metavar="NUMBER", help="Steps of training.")] = 2000,
    evaluations: Annotated[
        int, typer.Option(metavar="NUMBER", help="How often losses are evaluated; must divide the steps.")
    ] = 50,
    batch_size: Annotated[int, typer.Option(metavar="NUMBER", help="Examples a step.")] = 64,
    seeds: Annotated[int, typer.Option(metavar="NUMBER", help="Networks trained, at least 2.")] = 20,
    tuning_seeds: Annotated[
        int, typer.Option(metavar="NUMBER", help="Other networks, on which the learning rate is chosen.")
    ] = 5,
    target_loss: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="Training loss to be reached.",
            show_default="one that all initialisations reach on most seeds",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DIRECTORY", help="Where the files of a task are.")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Where to keep what is done; the same command continues there, however it ended.",
        ),
    ] = None,
    output: Output = None,
    dpi: Dpi = 200,
    size: Size = None,
    style: Style = None,
    force: Force = False,
) -> None:
    """Train a network from several initialisations: learning curves and what is significant.

    Each initialisation is trained at every learning rate on some seeds, and at the best one on others.

    \b
    Example:
      meanfield train --task teacher-student -i "he,anticorrelated(1),raai_unit_gain" --steps 1000
    """
    rates = [number("learning_rates", text) for text in learning_rates.split(",")]
    target = None if target_loss is None else number("target_loss", target_loss)
    names = [name.strip() for name in re.split(r",(?![^(]*\))", initializations) if name.strip()]
    if not names:
        raise ValueError(f"{option('initializations')} must name at least one, got {initializations!r}")

    from meanfield.empirical.studies import compare_initializations
    from meanfield.empirical.tasks import task as task_of
    from meanfield.plotting import plot_training_study

    chosen = task_of(task, data)
    files = outputs(output, f"train_{chosen.name}", dpi, size, style, force)
    study: TrainingStudy = compare_initializations(
        chosen,
        names,
        learning_rates=rates,
        optimizer=optimizer,
        activation=activation,
        width=width,
        depth=depth,
        steps=steps,
        evaluations=evaluations,
        batch_size=batch_size,
        seeds=seeds,
        tuning_seeds=tuning_seeds,
        target_loss=target,
        checkpoint=checkpoint,
    )
    study.save(files.values)
    files.write_picture(lambda: plot_training_study(study))
    print_study(study)
    print(files)
