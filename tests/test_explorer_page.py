"""The explorer as someone at a browser uses it: headless Chromium, real keys, numbers read from the page."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from browser import chromium, need_chromium

import meanfield as mf
from meanfield.explorer.page import shown
from meanfield.explorer.server import server
from meanfield.explorer.settings import CHOICES, RANGES, Settings

pytestmark = pytest.mark.alone

PATIENCE = 120  # seconds, for the compiler
SLIDERS = list(RANGES)
SHOWN = SLIDERS[:3]  # of a dense layer


@pytest.fixture(scope="module")
def address():
    """A running explorer in this process: what it compiles, the tests need not compile again."""
    need_chromium()
    with server() as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.port}/"
        listening.shutdown()


@pytest.fixture(scope="module")
def browser(address, tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory):
    """Where screenshots go: a folder that the checks keep, if they name one."""
    folder = Path(os.environ.get("MEANFIELD_ARTEFACTS") or tmp_path_factory.mktemp("artefacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def text(browser, identity):
    return browser.execute_script(f"return document.getElementById('{identity}')?.textContent ?? ''")


def number(browser, name):
    """(as printed, as in the tooltip) of one number on the page."""
    return browser.execute_script(
        f"const n = document.getElementById('number-{name}'); return n ? [n.textContent, n.title] : null"
    )


def wait(condition, what):
    began = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - began < PATIENCE, f"no {what} within {PATIENCE} s"
        time.sleep(0.03)
    return found


def open_page(browser, address, query=""):
    browser.get(address + query)
    wait(lambda: number(browser, "q"), "numbers")


def sliders(browser):
    return browser.find_elements("css selector", "[role=slider]")


def settings_of(browser):
    """What the controls say."""
    values = {
        n: float(s.get_attribute("aria-valuenow")) for n, s in zip(SLIDERS, sliders(browser), strict=True)
    }
    names = {n: text(browser, f"{n}-value").strip() for n in ("activation", "block")}
    return Settings(**names, **values)


def expected(settings):
    given = (settings.activation, settings.prior) if settings.block == "dense" else (settings.layer,)
    with jax.enable_x64(True):
        point, rates, scales = (f(*given) for f in (mf.fixed_point, mf.lyapunov_exponents, mf.depth_scales))
    values = {n: getattr(point, n) for n in ("q", "c", "one_minus_c", "chi_q", "chi_c", "chi_1", "chi_perp")}
    values |= {"lambda_q": rates.q, "lambda_c": rates.c, "lambda_max": rates.maximal}
    values |= {"xi_q": scales.q, "xi_c": scales.c}
    names = {"phase": mf.Phase(int(point.phase)).name, "status-name": mf.Status(int(point.status)).name}
    return {n: float(v) for n, v in values.items()}, {
        k: v.lower().replace("_", " ") for k, v in names.items()
    }


def numbers_agree(browser, settings):
    values, names = expected(settings)
    agree = all(number(browser, n) == [shown(v), repr(v)] for n, v in values.items())
    return agree and all(text(browser, identity) == name for identity, name in names.items())


def check(browser, settings):
    """The page shows to the last digit what the library returns for what the controls say."""
    wait(lambda: numbers_agree(browser, settings), f"agreement for {settings}")


def press(element, *keys):
    from selenium.webdriver.common.keys import Keys

    element.send_keys(*(getattr(Keys, key) for key in keys))


def focused_option(browser):
    return browser.execute_script("return document.activeElement?.value ?? ''")


@pytest.mark.parametrize("name", SHOWN)
def test_arrow_keys_move_a_slider_and_the_numbers_follow(browser, address, name):
    open_page(browser, address)
    check(browser, Settings())
    slider, step = sliders(browser)[SLIDERS.index(name)], RANGES[name].step
    before = settings_of(browser)
    for keys, change in ((("ARROW_LEFT",) * 3, -3 * step), (("ARROW_RIGHT",), step)):
        value = getattr(settings_of(browser), name)
        press(slider, *keys)
        now = settings_of(browser)
        assert getattr(now, name) == pytest.approx(value + change, abs=1e-9)
        check(browser, now)
    for key, end in (("HOME", RANGES[name].low), ("END", RANGES[name].high)):
        press(slider, key)
        assert getattr(settings_of(browser), name) == end
        check(browser, settings_of(browser))
    others = [n for n in SLIDERS if n != name]
    assert all(getattr(settings_of(browser), n) == getattr(before, n) for n in others)


def test_a_slider_can_be_dragged(browser, address):
    from selenium.webdriver.common.action_chains import ActionChains

    open_page(browser, address)
    ActionChains(browser).drag_and_drop_by_offset(sliders(browser)[0], -60, 0).perform()
    moved = settings_of(browser)
    assert 1.0 < moved.weight_var < 2.0
    check(browser, moved)


def test_the_whole_page_can_be_used_by_keyboard(browser, address):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def key(*keys):
        for each in keys:
            ActionChains(browser).send_keys(each).perform()
            time.sleep(0.2)

    open_page(browser, address, Settings("relu").query)
    reached = []
    for _ in range(8):
        key(Keys.TAB)
        reached.append(browser.switch_to.active_element)
    assert [control.get_attribute("id") for control in reached[:2]] == ["activation", "block"]
    labels = [control.get_attribute("aria-label") for control in reached[2:]]
    names = ["weight variance", "bias variance", "anticorrelation"]
    assert labels[1::2] == names and labels[::2] == [f"{name} as a number" for name in names]
    reached[0].send_keys(Keys.ENTER)
    time.sleep(0.4)
    key(Keys.ARROW_DOWN, Keys.ENTER)
    chosen = CHOICES[CHOICES.index("relu") + 1]
    wait(lambda: settings_of(browser).activation == chosen, f"choice of {chosen}")


BLOCKS = {
    "residual": Settings("erf", 2.0, 0.1, block="residual", skip=0.6),
    "pre-norm residual": Settings("erf", 2.0, 0.1, block="pre-norm residual", skip=0.5),
    "dropout": Settings("erf", 1.5, 0.1, block="dropout", keep=0.8),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_is_chosen_and_its_parameter_moved(browser, address, artefacts, block):
    """Its slider alone is shown beside the prior's, and the page shows the numbers of the layer."""
    name = {"dropout": "keep"}.get(block, "skip")
    open_page(browser, address, BLOCKS[block].query)
    check(browser, BLOCKS[block])
    seen = [n for n, slider in zip(SLIDERS, sliders(browser), strict=True) if slider.is_displayed()]
    assert seen == [*SHOWN, name]
    press(sliders(browser)[SLIDERS.index(name)], "ARROW_RIGHT")
    moved = settings_of(browser)
    assert getattr(moved, name) == pytest.approx(getattr(BLOCKS[block], name) + 0.01, abs=1e-9)
    check(browser, moved)
    wait(lambda: not text(browser, "progress"), "diagram")
    assert browser.save_screenshot(str(artefacts / f"explorer_{name}_{len(block)}.png"))


def test_a_block_is_chosen_by_keyboard(browser, address):
    open_page(browser, address, Settings("relu").query)
    press(browser.find_element("id", "block"), "ENTER")
    wait(lambda: focused_option(browser) == "dense", "list of blocks")
    press(browser.switch_to.active_element, "ARROW_DOWN")
    wait(lambda: focused_option(browser) == "residual", "the next one")
    press(browser.switch_to.active_element, "ENTER")
    wait(lambda: settings_of(browser).block == "residual", "choice")
    check(browser, settings_of(browser))


# Activations by quadrature compile for several seconds each: two of them, or all if MEANFIELD_FULL is set.
BRIEF = {"abs", "cos", "erf", "hard_tanh", "leaky_relu", "linear", "relu", "sin", "squared_relu", "tanh"}
ACTIVATIONS = [name for name in CHOICES if name in BRIEF or os.environ.get("MEANFIELD_FULL")]


@pytest.mark.slow
def test_every_activation_shows_its_own_numbers(browser, address):
    open_page(browser, address, Settings(ACTIVATIONS[0], 1.3, 0.15, 0.5).query)
    for before, name in zip([None, *ACTIVATIONS], ACTIVATIONS, strict=False):
        if before is not None:
            press(browser.find_element("id", "activation"), "ENTER")
            for i in range(CHOICES.index(before), CHOICES.index(name) + 1):
                focus, key = CHOICES[i], "ENTER" if CHOICES[i] == name else "ARROW_DOWN"
                wait(lambda focus=focus: focused_option(browser) == focus, f"focus on {focus}")
                press(browser.switch_to.active_element, key)
        wait(lambda name=name: settings_of(browser).activation == name, f"choice of {name}")
        wait(lambda: text(browser, "phase"), "phase")
        check(browser, Settings(name, 1.3, 0.15, 0.5))


def test_an_address_sets_the_sliders_and_the_sliders_set_the_address(browser, address):
    settings = Settings("leaky_relu(0.2)", 1.25, 0.3, -0.4)
    open_page(browser, address, settings.query)
    assert settings_of(browser) == settings
    check(browser, settings)
    press(sliders(browser)[1], "ARROW_RIGHT")
    moved = settings_of(browser)
    wait(lambda: Settings.from_query(browser.current_url.partition("?")[2]) == (moved, []), "address")


_PRESS = """
const [slider, key] = arguments, done = arguments[arguments.length - 1], began = performance.now();
const watch = new MutationObserver(function () {
  watch.disconnect();
  Promise.all([...document.images].map((image) => image.decode())).then(() => requestAnimationFrame(() => {
    done(performance.now() - began);
  }));
});
watch.observe(document.getElementById("correlation"), {attributes: true, attributeFilter: ["src"]});
slider.focus();
slider.dispatchEvent(new KeyboardEvent("keydown", {key: key, bubbles: true, cancelable: true}));
"""


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_from_a_key_to_the_new_pictures_takes_at_most_100_ms(browser, address, activation):
    """The lower quartile: the machine may have something else to do now and then."""
    open_page(browser, address, f"?activation={activation}")
    wait(lambda: not text(browser, "progress"), "diagram")
    time.sleep(1)
    slider, times = sliders(browser)[0], []
    for _ in range(24):
        times.append(browser.execute_async_script(_PRESS, slider, "ArrowLeft"))
        time.sleep(0.1)
    print(f"{activation}: quartiles {np.percentile(times, [25, 50, 75]).round()} ms")
    assert np.percentile(times, 25) <= 100


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?weight_var=-1", "weight_var must be between 0 and 4 in the explorer, got -1."),
        ("?activation=rellu&bias_var=x", "did you mean 'relu'?"),
        ("?anticorrelation=<b>1</b>", "anticorrelation must be a number, got '<b>1</b>'."),
    ],
)
def test_a_bad_value_in_the_address_gives_a_message_and_a_working_page(browser, address, query, message):
    open_page(browser, address, query)
    alert = wait(lambda: text(browser, "message"), "message")
    assert message in alert and "Traceback" not in browser.page_source
    check(browser, Settings())


def test_a_click_in_the_diagram_moves_the_point(browser, address):
    from selenium.webdriver.common.action_chains import ActionChains

    open_page(browser, address)
    wait(lambda: not text(browser, "progress"), "diagram")
    area = browser.find_element("css selector", "#diagram .nsewdrag")
    ActionChains(browser).move_to_element(area).click().perform()
    wait(lambda: settings_of(browser) != Settings(), "move")
    moved = settings_of(browser)
    assert moved.weight_var == pytest.approx(2.0, abs=0.06) and moved.bias_var == pytest.approx(0.5, abs=0.03)
    check(browser, moved)


def test_nothing_comes_from_the_network_and_nothing_fails(browser, address):
    browser.get_log("performance"), browser.get_log("browser")
    open_page(browser, address)
    wait(lambda: not text(browser, "progress"), "diagram")
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 5
    assert all(url.startswith((address, "data:", "blob:")) for url in asked), asked
    statuses = [
        e["params"]["response"]["status"] for e in events if e["method"] == "Network.responseReceived"
    ]
    assert max(statuses) < 400
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


SIZES = [(1440, 900), (1000, 700), (390, 844)]
_SEEN = """
const box = (e) => e.getBoundingClientRect(), at = (id) => document.getElementById(id);
const across = (b) => b.width > 0 && b.left >= 0 && b.right <= innerWidth;
const inside = (b) => across(b) && b.top >= 0 && b.bottom <= innerHeight;
return {
  sliders: [...document.querySelectorAll("[role=slider]")].every((e) => !e.offsetParent || inside(box(e))),
  boxes: [...document.querySelectorAll(".control input[type=number]")].filter((e) => inside(box(e))).length,
  diagram: inside(box(at("diagram"))),
  wide: document.documentElement.scrollWidth <= innerWidth,
};
"""


@pytest.fixture
def sized(browser):
    """Sets the size of the page, and gives it back."""
    told = lambda size: browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        dict(width=size[0], height=size[1], deviceScaleFactor=1, mobile=False),
    )
    yield told
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("size", SIZES)
def test_sliders_their_numbers_and_the_diagram_are_seen_together(browser, address, sized, artefacts, size):
    sized(size)
    open_page(browser, address)
    wait(lambda: not text(browser, "progress"), "diagram")
    everything = {"sliders": True, "boxes": 3, "diagram": True, "wide": True}
    wait(lambda: browser.execute_script(_SEEN) == everything, f"room at {size}")
    time.sleep(0.5)
    assert browser.save_screenshot(str(artefacts / f"explorer_{size[0]}.png"))


def test_pictures_fill_their_cards(browser, address, sized):
    sized(SIZES[0])
    open_page(browser, address)
    wait(lambda: browser.execute_script("return [...document.images].every(i => i.naturalWidth)"), "pictures")
    four = "[i.naturalWidth, i.naturalHeight, i.clientWidth, i.clientHeight]"
    sides = browser.execute_script(f"return [...document.images].map(i => {four})")
    assert len(sides) == 4 and all(abs((a / b) / (w / h) - 1) < 0.1 for a, b, w, h in sides)


@pytest.mark.parametrize(
    ("name", "setting"),
    {
        "tanh_the_first_page": Settings(),
        "relu_bounded_chaos": Settings("relu", 2.3, 0.1, 0.9),
        "relu_unbounded": Settings("relu", 3.4, 0.4, 0.5),
        "erf_near_criticality": Settings("erf", 1.25, 0.05, 0.0),
    }.items(),
)
def test_screenshots(browser, address, artefacts, name, setting):
    open_page(browser, address, setting.query)
    wait(lambda: not text(browser, "progress"), "diagram")
    wait(
        lambda: browser.execute_script(
            "return [...document.images].every(i => i.complete && i.naturalWidth)"
        ),
        "",
    )
    time.sleep(0.5)
    assert browser.save_screenshot(str(artefacts / f"explorer_{name}.png"))


# --- the command, in a process of its own ------------------------------------------


@pytest.fixture
def process():
    # A shell may start the tests in the background, where Control-C is ignored and the child inherits that.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = listen + "import runpy; runpy.run_module('meanfield', run_name='__main__')"
    command = [sys.executable, "-c", code, "explore", "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def listening_at(pid):
    """(address, port) in hexadecimal of what a process listens at, as Linux tells it."""
    sockets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))
        except FileNotFoundError:
            continue
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        file = Path(f"/proc/{pid}/net/{table}")
        for row in file.read_text().splitlines()[1:] if file.exists() else []:
            fields = row.split()
            if fields[9] in sockets and (table.startswith("udp") or fields[3] == "0A"):
                found.append(tuple(fields[1].split(":")))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_listens_on_this_computer_only_and_control_c_ends_it(process):
    line = process.stdout.readline()
    address = re.fullmatch(r"Explorer at http://127\.0\.0\.1:(\d+)/ \(Control-C ends it\)\n", line)
    assert address, line
    assert listening_at(process.pid) == [("0100007F", f"{int(address[1]):04X}")]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "Explorer ended.\n")


def test_a_port_that_is_taken_is_one_sentence(capsys):
    import socket

    from meanfield.cli import main

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["explore", "--port", str(port), "--no-browser"]) == 2
    assert (
        capsys.readouterr().err
        == f"Error: cannot listen on port {port} of 127.0.0.1: Address already in use.\n"
    )
    assert main(["explore", "--port", "70000"]) == 2
    assert capsys.readouterr().err == "Error: --port must be between 0 and 65535, got 70000.\n"
