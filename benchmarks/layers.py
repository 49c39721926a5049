"""Flax networks of every kind of layer against the theory, forward and backward, in standard errors.

    python benchmarks/layers.py --json benchmarks/layers_cpu_2_cores.json

48 networks of widths 256 and 512 and depth 8 for each of 38 cases (transformers: 96 and 192, depth 4, since
heads and keys grow with the width too; orthogonal kernels: 128 and 256). From both widths what goes like
1/width is taken out. What is held against the theory is the variance, 1 - c, the growth of a tangent (forward
mode) and a gradient (reverse mode) at every layer; p-values and their uniformity as in ``agreement.py``. A
quarter of an hour on two cores; with --resume it goes on where it ended.
"""

import argparse
import json
import time
from pathlib import Path

from agreement import figures, in_words, uniformity
from harness import machine

import meanfield as mf
from meanfield.empirical import compare

P = mf.NormalPrior
MLP = mf.Chain("linear", P(2.0), "relu", P(1.0, 0.0, 1.0))
SIZES = dict(width=256, depth=8, networks=48)
SLOWER = dict(width=128, depth=8, networks=48)  # of orthogonal kernels, each a decomposition
OF_TOKENS = dict(width=96, depth=4, networks=48)
QUICK = dict(width=32, depth=2, networks=16)


def glu(activation, **options):
    """A gated unit of two kinds of weights."""
    return mf.GLU(activation, **(dict(gate=P(1.5), up=P(1.0), down=P(2.0)) | options))


def normed(*parts):
    """What stands behind a norm on the stream."""
    return mf.Chain(mf.RMSNorm(), *parts)


def cases():
    """(kind, what, layer), in an order that --quick can take every sixth of."""
    yield "norm", "RMSNorm, tanh", normed("tanh", P(1.5, 0.1))
    yield "norm", "RMSNorm, ReLU, kappa 0.9", normed("relu", P(1.9, 0.1, 0.9))
    yield "norm", "ReLU, LayerNorm", mf.Chain("relu", mf.LayerNorm(), P(1.5, 0.1))
    strong = mf.Chain("gelu", mf.LayerNorm(1.3), P(1.5, 0.1, -2.0))
    yield "norm", "GELU, LayerNorm of gain 1.3, kappa -2", strong
    yield "norm", "GELU, RMSNorm, kappa 0.5", mf.Chain("gelu", mf.RMSNorm(0.8, 0.1), P(1.5, 0.1, 0.5))

    yield "residual", "tanh, skip 0.8", mf.Residual(mf.Dense("tanh", P(4.0, 0.2)), skip=0.8, scale=0.7)
    yield "residual", "ReLU, skip 1", mf.Residual(mf.Dense("relu", P(2.0, 0.1, 0.5)), scale=0.4)
    two = mf.Chain("gelu", P(1.5, 0.1), "gelu", P(2.0))
    yield "residual", "two layers of GELU, skip 0.9", mf.Residual(two, skip=0.9, scale=0.5)
    yield "residual", "pre-norm ReLU, kappa 0.8", mf.Residual(normed("relu", P(2.0, 0.0, 0.8)))
    norm_behind = mf.Chain(mf.Residual(mf.Dense("gelu", P(2.0)), scale=0.8), mf.RMSNorm())
    yield "residual", "norm behind the sum, GELU", norm_behind

    batch = lambda phi, *numbers: mf.Chain(mf.BatchNorm(), phi, P(*numbers))
    yield "batch norm", "ReLU", batch("relu", 1.5, 0.2)
    yield "batch norm", "tanh", batch("tanh", 2.0, 0.1, 0.5)
    yield "batch norm", "GELU, gain 1.3", mf.Chain(mf.BatchNorm(1.3, 0.05), "gelu", P(1.5))
    yield "batch norm", "ReLU, skip 1", mf.Residual(batch("relu", 2.0))

    dropped = lambda phi, keep, prior, **options: mf.Chain(phi, mf.Dropout(keep, **options), prior)
    yield "dropout", "tanh, keep 0.9", dropped("tanh", 0.9, P(1.76, 0.05))
    yield "dropout", "ReLU, keep 0.8", dropped("relu", 0.8, P(1.5, 0.1, 0.5))
    yield "dropout", "GELU, keep 0.9, shared masks", dropped("gelu", 0.9, P(1.8, 0.1), shared=True)
    in_block = normed("gelu", mf.Dropout(0.9), P(2.0))
    yield "dropout", "pre-norm GELU, keep 0.9, skip 1", mf.Residual(in_block, scale=0.7)

    yield "gated", "RMSNorm, SwiGLU", normed(glu("silu"))
    yield "gated", "pre-norm SwiGLU, skip 1", mf.Residual(normed(glu("silu", down=P(4.0))), scale=0.5)
    yield "gated", "RMSNorm, GLU with biases", normed(glu("sigmoid", gate=P(2.0, 0.3), up=P(1.0, 0.2)))
    yield "gated", "pre-norm ReGLU, skip 0.9", mf.Residual(normed(glu("relu", gate=P(1.0, 0.1))), skip=0.9)

    yield "convolution", "tanh, 3 taps", mf.Conv("tanh", P(1.8, 0.1), (3,))
    yield "convolution", "ReLU, 3 taps, kappa 0.8", mf.Conv("relu", P(1.9, 0.1, 0.8), (3,))
    yield "convolution", "GELU, 3 x 3 taps", mf.Conv("gelu", P(1.9, 0.05), (3, 3))
    residual_conv = mf.Residual(normed(mf.Conv("relu", P(2.0), (3,))), scale=0.7)
    yield "convolution", "pre-norm ReLU, 3 taps, skip 1", residual_conv
    yield "convolution", "tanh, delta-orthogonal", mf.Conv("tanh", mf.OrthogonalPrior(1.8, 0.1), (3,))

    recurrent = lambda phi, prior, **options: mf.Recurrent(phi, prior, **options)
    yield "recurrent", "tanh, the same input", recurrent("tanh", P(2.0, 0.1), input_var=0.5)
    different = dict(input_var=0.5, input_correlation=0.6)
    yield "recurrent", "tanh, two inputs", recurrent("tanh", P(2.0, 0.1), **different)
    yield "recurrent", "ReLU, two inputs, kappa 0.9", recurrent("relu", P(1.5, 0.1, 0.9), **different)
    yield "recurrent", "minimalRNN, the same input", mf.MinimalRNN(P(4.0, 0.1))
    yield "recurrent", "minimalRNN, two inputs", mf.MinimalRNN(P(6.0, 0.1), input_correlation=0.7)

    usual = dict(beta=1.5, tokens=4, attention=(1.0, 0.7))
    block = lambda **options: mf.Transformer(MLP, **(usual | options))
    yield "transformer", "post-norm, 4 tokens", block()
    yield "transformer", "post-norm, 8 tokens, beta 2.5", block(beta=2.5, tokens=8)
    yield "transformer", "pre-norm, 4 tokens", block(norm="pre")
    gelu = mf.Chain("linear", P(1.5), "gelu", P(2.0))
    pre = mf.Transformer(gelu, beta=1.0, tokens=6, attention=(0.9, 0.5), feedforward=(1.0, 0.7), norm="pre")
    yield "transformer", "pre-norm, 6 tokens, GELU", pre

    stem, head = mf.Dense("relu", P(2.0)), mf.Dense("tanh", P(1.5))
    inner = mf.Residual(normed("gelu", P(1.5)))
    yield "schedule", "stem, six pre-norm blocks, head", [stem, *[inner] * 6, head]
    falling = [mf.Residual(mf.Dense("tanh", P(2.0)), scale=(n + 1) ** -0.5) for n in range(6)]
    yield "schedule", "scales that fall with depth", falling


def sizes_of(layer, quick) -> dict:
    """Width, depth and number of networks."""
    sizes = OF_TOKENS if isinstance(layer, mf.Transformer) else SIZES
    sizes = SLOWER if isinstance(getattr(layer, "prior", None), mf.OrthogonalPrior) else sizes
    sizes = QUICK if quick else sizes
    return sizes | ({"depth": None} if isinstance(layer, list) else {})


def measure(quick: bool, file: Path | None, resume: bool, seed: int) -> None:
    """A row a case, written as it comes. resume: keep those that the file has."""
    rows = json.loads(file.read_text())["rows"] if resume and file and file.exists() else []
    done = {(row["kind"], row["what"]) for row in rows}
    for i, (kind, what, layer) in enumerate(cases()):
        if (quick and i % 6) or (kind, what) in done:
            continue
        began = time.perf_counter()
        sizes = sizes_of(layer, quick)
        found = compare(layer, seed=seed + i, **sizes)
        row = {"kind": kind, "what": what, "layer": found.narrow.name, **sizes, "depth": found.narrow.depth}
        rows.append(row | figures(found, time.perf_counter() - began))
        print(f"{kind:12s} {what:40s} {in_words(rows[-1])}", flush=True)
        if file:
            written = {"machine": machine(), "uniform_p": uniformity(rows), "rows": rows}
            file.write_text(json.dumps(written, indent=1) + "\n")
    uniformity(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and one case in six")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--resume", action="store_true", help="keep the cases that the file has")
    parser.add_argument("--seed", type=int, default=500, help="of the first case, the next has the next")
    options = parser.parse_args()
    measure(options.quick, options.json, options.resume, options.seed)


if __name__ == "__main__":
    main()
