"""The live page: what the server computes, whom it answers, and what a browser shows of it."""

import base64
import contextlib
import http.client
import io
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import chromium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import call
from matplotlib.colors import to_rgb
from PIL import Image

import tts_jax as tts
from tts_jax._workers import workers
from tts_jax.live import runs, server as live_server
from tts_jax.plot.style import KINDS

ROOM = pathlib.Path(tts.__file__).parent / "live"
SMALL = "epsilon=0.1&neurons=3&seed={seed}&jumps=0.4&values=0,2&noise=0.5&slow_time=0.3&step_size=0.01"


@pytest.fixture(scope="module")
def server():
    """Of small programs. A network of 3 neurons is filled up to 4, a target of one jump to 5."""
    with pytest.MonkeyPatch.context() as patch, workers(1) as pool:
        patch.setattr(runs, "WIDTHS", (4, 60))
        patch.setattr(runs, "MOST_JUMPS", 5)
        patch.setattr(runs, "SAVES", 12)
        patch.setattr(runs, "POINTS", 41)
        with live_server.Server(0, pool) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield server
            server.shutdown()
            thread.join()


def get(server, path, **headers):
    """Status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=300)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read().decode()


def told(server, query):
    status, _, body = get(server, f"/run?{query}")
    assert status == 200
    return [json.loads(line) for line in body.splitlines()]


def unpacked(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


@pytest.fixture(scope="module")
def messages(server):
    return told(server, SMALL.format(seed=2))


def test_messages_come_in_order(messages):
    kinds = [message["kind"] for message in messages]
    assert kinds[:2] == ["compiling", "setting"]
    assert kinds[-1] == "done"
    assert {message["run"] for message in messages if message["kind"] == "run"} == {"limit", "flow", "SGD"}
    progress = [message["done"] for message in messages if message["kind"] == "progress" and message["run"] == "SGD"]
    assert progress == sorted(progress)
    assert (progress[0], progress[-1]) == (0, 1)


def test_runs_are_those_of_the_library(messages):
    """Of the network and the target as they are, without what fills them up."""
    setting = next(message for message in messages if message["kind"] == "setting")
    problem = tts.Regression(tts.PiecewiseConstant([0.4], [0.0, 2.0]), noise=0.5)
    model = tts.ShallowNetwork.init(jax.random.key(2), 3, tts.SmoothStep(4e-3))
    times = np.concatenate([[0.0], np.geomspace(3e-4, 0.3, 12)])
    np.testing.assert_allclose(unpacked(setting["times"]), times, rtol=1e-6)
    dynamics = {
        "limit": tts.TwoTimescaleLimit(),
        "flow": tts.GradientFlow(0.1),
        "SGD": tts.SGD(0.1, 0.01),
    }
    x = jnp.linspace(0.0, 1.0, 41)
    for message in (message for message in messages if message["kind"] == "run"):
        key = jax.random.fold_in(jax.random.key(2), 2)
        run = tts.simulate(dynamics[message["run"]], model, problem, times, key=key)
        functions = run.map(lambda network: jax.vmap(network)(x))
        expected = {"risk": run.risk, "positions": run.model.positions, "functions": functions}
        for name, array in expected.items():
            np.testing.assert_allclose(unpacked(message[name]), np.ravel(array), rtol=1e-5, atol=1e-6, err_msg=name)
        good = run.risk[-1] < 2 * 4e-3 / 28 * 2.0**2
        assert message["words"].startswith("ends at" if good else "does not end at")


def test_other_numbers_compile_nothing(server, messages):
    """Of neurons and jumps too. Only the start of another number of neurons is drawn by a program of its own."""
    compiled = []

    def note(event, seconds, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(about["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(note)
    other = "epsilon=0.01&neurons=2&seed=9&jumps=0.3,0.6&values=0,2,1&noise=0.1&slow_time=0.2&step_size=0.02"
    assert told(server, other)[-1]["kind"] == "done"
    jax.monitoring.clear_event_listeners()
    large = ("go_on", "trajectory", "stretch", "risk_and_status", "functions")
    assert [name for name in compiled if any(part in name for part in large)] == []


def test_two_pages_at_once(server):
    answers = {}

    def ask(seed):
        answers[seed] = told(server, SMALL.format(seed=seed))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in (3, 4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, messages in answers.items():
        start = tts.ShallowNetwork.init(jax.random.key(seed), 3, tts.SmoothStep(4e-3)).positions[:, 0]
        for message in (message for message in messages if message["kind"] == "run"):
            np.testing.assert_allclose(unpacked(message["positions"])[:3], start, rtol=1e-6)
        assert messages[-1]["kind"] == "done"


def test_a_run_ends_when_the_page_has_gone_away(server, monkeypatch):
    ends = []

    def watched(comparison, tell):
        try:
            runs.compute(comparison, tell)
        except BaseException as error:
            ends.append(type(error))
            raise

    monkeypatch.setattr(live_server, "compute", watched)
    long = SMALL.format(seed=2).replace("step_size=0.01", "step_size=1e-6")
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        host = f"127.0.0.1:{server.server_port}"
        connection.sendall(f"GET /run?{long} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        assert connection.recv(12) == b"HTTP/1.0 200"
    assert told(server, SMALL.format(seed=3))[-1]["kind"] == "done"
    assert len(ends) == 1
    assert issubclass(ends[0], ConnectionError)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("epsilon=0", "epsilon must be from 1e-06 to 1 here, got 0"),
        ("epsilon=nan", "epsilon must be from 1e-06 to 1 here, got nan"),
        ("epsilon=", "epsilon must be a number, got ''"),
        ("epsilon=small", "epsilon must be a number, got 'small'"),
        ("epsilon=0.1&epsilon=0.2", "epsilon must be given once, got it 2 times"),
        ("eta=0.1", "a setting must be one of 'epsilon', 'neurons', "),
        ("neurons=2.5", "neurons must be a whole number, got '2.5'"),
        ("neurons=61", "neurons must be from 1 to 60 here, got 61"),
        ("neurons=" + "9" * 5000, "neurons must be a whole number, got '999"),
        ("seed=-1", "seed must be from 0 to"),
        ("jumps=0.5,0.2&values=0,1,2", "jumps must be strictly increasing, got [0.5 0.2]"),
        ("jumps=0.5&values=0,1,2", "a target with 1 jumps has 2 values, got 3"),
        ("jumps=0.5,0.5001&values=0,1,2", "jumps must be 0.002 apart"),
        ("jumps=&values=1", "jumps must be numbers with commas between, got ''"),
        ("jumps=0.1,0.2,0.3,0.4,0.5,0.6&values=0,1,0,1,0,1,0", "jumps must be 5 at most here, got 6"),
        ("values=2,2,2,2,2,2", "values must not be all the same, got 2"),
        ("values=<b>", "values must be numbers with commas between, got '<b>'"),
        ("step_size=1e-6", "step_size must take 666,666 steps at most here, got 1,750,000,000 to slow time 0.035"),
        ("slow_time=1e400", "slow_time must be from 0.001 to 10 here, got inf"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_one_line(server, query, message):
    status, _, body = get(server, f"/run?{query}")
    said = json.loads(body)["error"]
    assert status == 400
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("epsilon", "slow_time", "step"),
    [(2e-5, 0.035, 1e-3), (1.0, 10.0, 1e-5), (1e-3, 1.0, 5e-4), (1.0, 0.01, 1e-5), (1e-6, 0.02, 1e-2)],
)
def test_steps_are_as_fine_as_their_number_allows(epsilon, slow_time, step):
    assert runs.automatic_step(epsilon, slow_time, 2_000_000) == step
    assert slow_time / (epsilon * step) <= 2_000_001
    assert step == 1e-5 or slow_time / (epsilon * step) > 2_000_000 / 2.6


def test_sgd_is_left_out_where_it_takes_too_long(server):
    query = SMALL.format(seed=2).replace("&step_size=0.01", "").replace("0.1&", "1e-6&", 1)
    messages = told(server, query)
    assert {message["run"] for message in messages if message["kind"] == "run"} == {"limit", "flow"}
    setting = next(message for message in messages if message["kind"] == "setting")
    assert "SGD is left out: it would take 30,000,000 steps" in setting["step"]


def test_lessons_can_be_simulated(monkeypatch):
    monkeypatch.setattr(runs, "WIDTHS", (20, 60))
    lessons = re.findall(r'<a href="#([^"]*)"><b>', (ROOM / "page.html").read_text())
    works, stuck, few, merge, noise = (runs.asked(lesson.replace("&amp;", "&")) for lesson in lessons)
    assert all(lesson.steps <= 2_000_000 for lesson in (works, stuck, few, merge, noise))
    assert works.neurons_per_piece == stuck.neurons_per_piece == (2, 3, 3, 2, 4, 6)  # one start, two speeds
    assert (works.epsilon, stuck.epsilon) == (2e-5, 1.0)
    assert few.neurons_per_piece[1:3] == (0, 0)
    gaps = np.asarray(merge.start.positions[:, 0]) - 0.2
    assert sorted(np.abs(gaps))[1] - sorted(np.abs(gaps))[0] < 1e-3  # nearly symmetric
    assert np.isclose(noise.step_size, 100 * stuck.step_size)


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1", "127.0.0.1:1", "localhost.example.org", ""])
def test_a_page_of_another_name_is_refused(server, host):
    """As by DNS rebinding: a name of somebody else that has the address of this machine."""
    for path in ("/", "/run"):
        status, _, body = get(server, path, Host=host)
        assert status == 421
        assert json.loads(body) == {"error": f"open {server.address}"}


def test_another_site_may_not_compute(server):
    assert get(server, f"/run?{SMALL.format(seed=2)}", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert get(server, "/", Host=f"localhost:{server.server_port}")[0] == 200
    _, headers, _ = get(server, "/", Origin="https://example.org")
    assert not [name for name in headers if name.startswith("Access-Control")]
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")


@pytest.mark.parametrize("path", ["/page", "/../pyproject.toml", "/server.py", "/run/", "//example.org/"])
def test_there_is_nothing_else(server, path):
    assert get(server, path)[0] == 404


def test_only_get(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", "/run")
        assert connection.getresponse().status == 501


def test_the_page_asks_nobody_else(server):
    for path, kind in live_server.FILES.items():
        status, headers, content = get(server, path)
        assert status == 200
        assert headers["Content-Type"] == f"{kind}; charset=utf-8"
        addresses = re.findall(r"\w+://[^\s\"']*", content)
        assert addresses == (["http://www.w3.org/2000/svg"] if path == "/icon.svg" else [])


def test_colours_are_those_of_the_plots():
    style = (ROOM / "page.css").read_text()
    for name in ("flow", "sgd", "limit"):
        assert re.findall(rf"--{name}: (#\w+);", style) == [KINDS[name]["color"].lower()]


@pytest.fixture(scope="module")
def page(server, tmp_path_factory):
    with chromium.opened(f"{server.address}#{SMALL.format(seed=2)}", tmp_path_factory.mktemp("profile")) as page:
        yield page


def shown(page):
    """The error of each run, now and at the end."""
    page.wait("document.body.dataset.state === 'done'")
    cells = "[...document.querySelectorAll('tbody')].map(rows => [rows.dataset.run, ...[...rows.querySelectorAll("
    return {run: cell for run, *cell in page.evaluate(cells + "'[data-value]')].map(cell => cell.dataset.value)])")}


def test_a_browser_shows_and_draws_the_runs(page, messages):
    errors = shown(page)
    for message in (message for message in messages if message["kind"] == "run"):
        risk = unpacked(message["risk"])
        assert [np.float32(error) for error in errors[message["run"]]] == [risk[-1], risk[-1]]
        assert message["words"] in page.evaluate(f"document.querySelector('[data-run={message['run']}]').innerText")
    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), int).reshape(-1, 3)
    for style in (KINDS["flow"], KINDS["sgd"], KINDS["limit"]):
        colour = np.array([to_rgb(style["color"])]) * 255
        assert (np.abs(pixels - colour).max(axis=1) < 8).sum() > 100


def test_a_click_asks_for_another_start(page, server):
    shown(page)
    page.click("#another")
    page.wait("document.querySelector('#seed').value === '3'")
    assert "seed=3" in page.evaluate("location.hash")
    errors = shown(page)
    for message in (message for message in told(server, SMALL.format(seed=3)) if message["kind"] == "run"):
        assert np.float32(errors[message["run"]][1]) == unpacked(message["risk"])[-1]


def test_the_newest_question_is_answered_last(page, server):
    """Of a setting that takes long, and one after it that does not."""
    long = SMALL.format(seed=2).replace("step_size=0.01", "step_size=1e-6")
    page.evaluate(f"location.hash = '{long}'")
    page.wait("document.querySelector('#seed').value === '2'")
    page.evaluate(f"location.hash = '{SMALL.format(seed=4)}'")
    page.wait("document.querySelector('#seed').value === '4'")
    errors = shown(page)
    for message in (message for message in told(server, SMALL.format(seed=4)) if message["kind"] == "run"):
        assert np.float32(errors[message["run"]][1]) == unpacked(message["risk"])[-1]


def test_a_browser_shows_why_not(page):
    page.evaluate("location.hash = 'neurons=61'")
    page.wait("document.body.dataset.state === 'refused'")
    assert page.evaluate("document.querySelector('#error').innerText") == "neurons must be from 1 to 60 here, got 61"


def test_a_browser_asks_nobody_else(page, server):
    assert len(page.requests) > 7
    assert [address for address in page.requests if not address.startswith(server.address)] == []
    assert [each for each in page.complaints if "400 (Bad Request)" not in each] == []


@pytest.mark.parametrize("port", ["-1", "65536", "1.5", "http"])
def test_a_bad_port(port):
    code, out, error = call("serve", "--port", port)
    assert (code, out) == (2, "")
    assert "port" in error
    assert error.count("\n") == 1


def test_a_port_that_is_taken(server):
    code, out, error = call("serve", "--port", str(server.server_port))
    assert (code, out) == (2, "")
    assert error.startswith(f"tts-jax: cannot listen on port {server.server_port} (")
    assert error.endswith("pass 0 for any that is free\n")


def test_help():
    code, out, _ = call("serve", "--help")
    assert code == 0
    assert "--port N" in out


def test_ctrl_c_ends_it():
    """While it compiles what the first page will need."""
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from tts_jax import cli; sys.exit(cli.main(['serve', '--port', '0']))"
    )
    cache = {"JAX_COMPILATION_CACHE_DIR": str(jax.config.values["jax_compilation_cache_dir"])}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | cache,
    ) as process:
        try:
            said = process.stdout.readline()
            address, port = re.match(r"(http://127\.0\.0\.1:(\d+)/) ", said).groups()
            with socket.create_connection(("127.0.0.1", int(port)), timeout=20):
                pass
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=20)
        finally:
            process.kill()
    assert address
    assert (process.returncode, error) == (130, "tts-jax: interrupted\n")
