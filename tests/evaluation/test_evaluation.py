"""`qamx eval` and `qamx video`: what is played, what is said of it, and what it looks like."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from corner import Corner
from scipy.stats import binom
from short_run import short_run

from qamx._utils import processes
from qamx.cli import main
from qamx.config.environments import GymnasiumEnvironmentSettings
from qamx.errors import RunError, UserError
from qamx.evaluation import replay
from qamx.evaluation.evaluate import EvaluationResult, experiment_of, play
from qamx.evaluation.frames import FAILURE, LONGEST_GIF, SUCCESS, Gif, Grid, Mp4
from qamx.evaluation.intervals import Pairing, mean_interval, success_interval
from qamx.evaluation.policy_source import PolicySource, source_of_run
from qamx.evaluation.replay import EpisodeReplay, check_draws
from qamx.evaluation.video import write_videos
from qamx.normalisation import Normalisation, NormalisedEnvironment
from qamx.training.evaluator import PlayedEpisode
from qamx.training.plan import Evaluation


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short run, evaluated and saved at its last step, 30."""
    return short_run(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture
def copy(trained, tmp_path):
    """The run's folder, to be spoilt."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, Any]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def evaluated(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    file = tmp_path / "report.json"
    assert main(["eval", *arguments, "--json", str(file)]) == 0
    return json.loads(file.read_text())


MEANS = ("success", "return", "length")


# --- what is played ---


def test_the_runs_own_evaluation_is_repeated_to_the_last_bit(trained, tmp_path, capsys):
    before = contents(trained)
    policy, behaviour = evaluated(tmp_path, str(trained), "--behaviour")["evaluations"]
    row = json.loads((trained / "evaluations.jsonl").read_text().splitlines()[-1])
    assert policy["step"] == row["step"] == 30
    assert {name: policy[name] for name in MEANS} == {name: row[name] for name in MEANS}
    cloned = {name: row[f"behaviour_{name}"] for name in MEANS}
    assert {name: behaviour[name] for name in MEANS} == cloned
    assert contents(trained) == before
    said = capsys.readouterr().out
    assert "3 episodes in pointmaze-medium-navigate, seed 10001" in said
    assert "[0%, 71%]" in said  # 1 - 0.025^(1/3) with no success


def test_other_tasks_seeds_steps_and_numbers_of_episodes(trained, tmp_path, capsys):
    options = ["--task", "1", "2", "--episodes", "1", "--seed", "7", "--step", "20"]
    one, two = evaluated(tmp_path, str(trained), *options)["evaluations"]
    assert (one["task"], two["task"], one["trained_task"]) == (1, 2, 2)
    assert one["step"] == 20
    assert [len(found["episodes"]) for found in (one, two)] == [1, 1]
    assert one["episodes"][0]["seed"] == two["episodes"][0]["seed"]
    assert (
        one["episodes"][0]["seed"]
        != evaluated(tmp_path, str(trained), "--episodes", "1")["evaluations"][0]["episodes"][0][
            "seed"
        ]
    )
    assert "1 (trained for 2)" in capsys.readouterr().out


def test_a_pair_is_played_on_the_same_seeds(trained, copy, tmp_path, capsys):
    shutil.rmtree(copy / "checkpoints" / "30")
    report = evaluated(tmp_path, "--paired", str(trained), str(copy), "--task", "1")
    one, other = report["evaluations"]
    assert (one["step"], other["step"]) == (30, 20)
    assert [e["seed"] for e in one["episodes"]] == [e["seed"] for e in other["episodes"]]
    (pairing,) = report["pairings"]
    assert pairing["task"] == 1
    solved = [[e["success"] for e in found["episodes"]] for found in (one, other)]
    assert pairing["first"] == sum(a and not b for a, b in zip(*solved, strict=True))
    assert sum(pairing[name] for name in ("both", "first", "second", "neither")) == 3
    said = capsys.readouterr().out
    assert "McNemar's exact test: p = " in said
    assert f"B: {copy}\n" in said
    assert "B - A, task 1\n" in said


def test_what_was_played_is_kept_when_a_pair_is_interrupted(
    trained, copy, tmp_path, capsys, monkeypatch
):
    """In the second of two tasks, after the first policy's episodes."""
    calls = itertools.count()

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == 3:
            raise RunError("interrupted")
        return play(*arguments)

    monkeypatch.setattr("qamx.evaluation.evaluate.play", interrupted)
    file = tmp_path / "report.json"
    pair = ["--paired", str(trained), str(copy), "--task", "1", "2", "--episodes", "1"]
    assert main(["eval", *pair, "--json", str(file)]) == 1
    report = json.loads(file.read_text())
    assert [found["task"] for found in report["evaluations"]] == [1, 1, 2]
    assert [pairing["task"] for pairing in report["pairings"]] == [1]
    said = capsys.readouterr().out
    assert "B - A, task 1\n" in said
    assert "B - A, task 2" not in said


# --- mistakes ---


@pytest.mark.parametrize("command", ["eval", "video"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--episodes", "0"], "--episodes: found 0; write a positive integer"),
        (["--task", "9"], "--task: found 9; write an integer from 1 to 5"),
        (["--step", "7"], "--step: found 7, and the checkpoints that are kept are of 30, 20"),
        (["--seed", "-1"], "--seed: found -1"),
        (["--seed", "4294967303"], "--seed: found 4294967303; write an integer from 0 to 42949"),
    ],
)
def test_a_number_that_cannot_be(command, arguments, said, trained, capsys, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    assert main([command, str(trained), *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["eval", "video"])
def test_a_folder_without_a_policy(command, copy, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    assert main([command, str(tmp_path)]) == 2
    assert f"{tmp_path}: no run (it has no config.toml)" in capsys.readouterr().err
    for step in (20, 30):
        next((copy / "checkpoints" / str(step)).glob("position.json")).write_text("{")
    assert main([command, str(copy)]) == 2
    assert "no intact checkpoint" in capsys.readouterr().err
    assert main([command, str(copy), "--step", "20"]) == 2
    assert "name another step" in capsys.readouterr().err
    shutil.rmtree(copy / "checkpoints")
    assert main([command, str(copy)]) == 2
    assert "no checkpoint yet" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_passed_over_and_stays(copy, tmp_path, capsys):
    (copy / "checkpoints" / "30" / "position.json").write_text("{")
    assert evaluated(tmp_path, str(copy), "--episodes", "1")["evaluations"][0]["step"] == 20
    assert "the checkpoint before step 30 is used" in capsys.readouterr().err
    assert (copy / "checkpoints" / "30").is_dir()


def test_pairs_that_cannot_be_compared(trained, copy, capsys):
    assert main(["eval", "--paired", str(trained)]) == 2
    assert "--paired: found 1 runs; name two" in capsys.readouterr().err
    config = copy / "config.toml"
    config.write_text(config.read_text().replace("task = 2", "task = 3"))
    assert main(["eval", "--paired", str(trained), str(copy)]) == 2
    said = capsys.readouterr().err
    assert f"{trained} and {copy} act in different environments: task 2 and 3; name runs" in said


def test_a_pair_may_have_learned_other_rewards(trained, copy, capsys):
    config = copy / "config.toml"
    config.write_text(config.read_text().replace("reward_scale = 1.0", "reward_scale = 2.0"))
    assert "reward_scale = 2.0" in config.read_text()
    assert main(["eval", "--paired", str(trained), str(copy), "--episodes", "1"]) == 0


def test_a_report_cannot_be_a_folder(trained, tmp_path, capsys):
    assert main(["eval", str(trained), "--json", str(tmp_path)]) == 2
    assert f"--json {tmp_path}: a folder" in capsys.readouterr().err


def test_a_video_of_an_export_is_of_its_run(trained, tmp_path, monkeypatch):
    folder = tmp_path / "bundle"
    assert main(["export", str(trained), "--out", str(folder)]) == 0
    assert experiment_of(folder) == experiment_of(trained)
    monkeypatch.setattr("qamx.evaluation.video.check_draws", lambda *_: None)
    shown = []

    def note(found: Any, size: int) -> Any:
        shown.extend(found)
        raise OSError("no more of it")  # what follows is drawing, which other tests look at

    monkeypatch.setattr("qamx.evaluation.video._cells", note)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    with pytest.raises(OSError, match="no more of it"):
        main(["video", str(folder), "--episodes", "1", "--out", str(tmp_path / "film.gif")])
    ((result,),) = shown
    source = source_of_run(trained).with_episodes(1, 0)
    own = next(play(source, result.environment, ("evaluate",), source.seed))
    assert np.array_equal(result.episodes[0].actions, own.episodes[0].actions)


def test_a_method_without_a_clone(trained):
    from qamx.evaluation.evaluate import roles_for

    with pytest.raises(UserError, match="holds no clone of the data"):
        roles_for(replace(source_of_run(trained), has_behaviour=False), behaviour=True)


def gymnasium_source(address: str) -> PolicySource:
    environment = GymnasiumEnvironmentSettings.model_validate(
        {"id": f"gymnasium:{address}", "success_return": 1.0, "max_episode_steps": 5}
    )
    factory: Any = None
    plan = Evaluation(episodes=1, environments=1, behaviour=False)
    return PolicySource("mine", 1, "qam", 0, environment, Normalisation(), plan, factory, True)


def test_an_environment_without_tasks_or_images():
    source = gymnasium_source("test_gymnasium:Walk")
    with pytest.raises(UserError, match=r"--task: found 2, and gymnasium:.* has no tasks"):
        source.for_task(2)
    with pytest.raises(UserError, match="draws no images: made with render_mode"):
        check_draws(source, source.environment, 64)
    scaled = NormalisedEnvironment(Corner, Normalisation())
    with pytest.raises(UserError, match="draws no images"):
        scaled.render(64)
    assert scaled.steps_per_second is None


def test_videos_need_their_packages(trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["video", str(trained)]) == 2
    assert 'pip install -e ".[video]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "film.avi"], "a video is .mp4 or .gif"),
        (["--out", "nowhere/write_videos.gif"], "its folder does not exist"),
        (["--size", "8"], "--size: found 8"),
        (["--fps", "0"], "--fps: found 0"),
        (["--fps", "1e-9"], "--fps: found 1e-09"),
    ],
)
def test_files_and_sizes_that_cannot_be(arguments, said, trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["video", str(trained), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# --- statistics ---


def test_an_interval_of_a_success_rate_is_exact():
    assert success_interval(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))
    assert success_interval(10, 10) == pytest.approx((0.025**0.1, 1.0))
    low, high = success_interval(3, 10)
    assert binom.sf(2, 10, low) == pytest.approx(0.025)
    assert binom.cdf(3, 10, high) == pytest.approx(0.025)


def test_mcnemars_test_by_hand():
    one = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0], bool)
    other = np.array([1, 1, 0, 1, 1, 1, 1, 1, 0], bool)
    pairing = Pairing.of(one, other)
    assert (pairing.both, pairing.first, pairing.second, pairing.neither) == (2, 1, 5, 1)
    assert pairing.difference == pytest.approx(4 / 9)
    assert pairing.p_value() == pytest.approx(2 * (1 + 6) / 2**6)
    assert Pairing(3, 0, 0, 4).p_value() == 1.0


@pytest.mark.parametrize(("first", "second"), [(0.0, 0.05), (0.1, 0.1), (0.05, 0.4)])
def test_a_paired_interval_holds_the_difference_as_often_as_it_says(first, second):
    """Over every outcome of 30 seeds, by its probability."""
    n, held, reach = 30, 0.0, 0.0
    for a, b in itertools.product(range(n + 1), repeat=2):
        if a + b > n:
            continue
        low, high = Pairing(0, a, b, n - a - b).interval()
        chance = binom.pmf(a, n, first) * binom.pmf(b, n - a, second / (1 - first))
        held += chance * (low <= second - first <= high)
        reach += chance * (high - low)
    assert held > 0.94
    assert reach < 0.45


def test_an_interval_of_a_mean_difference_by_hand():
    low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), rel=1e-5)


# --- what it looks like ---


def cell(success: bool, length: int, colour: int) -> Any:
    episode = PlayedEpisode(0, 1, success)
    result = SimpleNamespace(policy="qam", task=1)
    drawn = np.full((30, 60, 3), colour, np.uint8)
    return SimpleNamespace(
        episode=episode, result=result, step=0, over=False, length=length, image=lambda: drawn
    )


def count(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((image == colour).all(axis=-1).sum())


def test_a_cell_is_framed_and_stays_when_its_episode_is_over():
    solved, failed = cell(True, 1, 90), cell(False, 2, 120)
    grid = Grid([solved, failed], columns=2, size=60)
    first = grid.image()
    assert first.shape[0] % 2 == first.shape[1] % 2 == 0
    assert count(first, SUCCESS) == count(first, FAILURE) == 0
    assert count(first, (90, 90, 90)) == count(first, (120, 120, 120)) == 30 * 60
    solved.over, solved.step = True, 1
    half = grid.image()
    assert count(half[:, :64], SUCCESS) > 150
    assert count(half, FAILURE) == 0
    solved.image = lambda: pytest.fail("what is over is not drawn again")
    failed.over = True
    end = grid.image()
    assert count(end[:, 64:], FAILURE) > 150
    np.testing.assert_array_equal(end[:, :64], half[:, :64])


def test_an_mp4_plays_everywhere_and_lingers(tmp_path):
    import av

    encoder = Mp4(tmp_path / "film.mp4", 10.0)
    for step in range(20):
        encoder.add(step, np.full((64, 96, 3), 10 * step, np.uint8))
    assert not (tmp_path / "film.mp4").exists()
    encoder.close()
    with av.open(str(tmp_path / "film.mp4")) as file:
        stream = file.streams.video[0]
        images = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 10
    assert len(images) == 20 + 15
    assert [image.mean() for image in images[:20]] == pytest.approx(np.arange(20) * 10, abs=4)
    left = Mp4(tmp_path / "left.mp4", 10.0)
    left.add(0, np.zeros((64, 64, 3), np.uint8))
    left.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_gif_of_a_long_episode_is_bounded_and_ends_at_its_end(tmp_path):
    from PIL import Image

    encoder = Gif(tmp_path / "film.gif", fps=40.0, steps=1000)
    assert encoder.every == 7
    image = np.zeros((32, 32, 3), np.uint8)
    for step in range(1001):
        image = np.zeros_like(image)
        image[:, : step % 32] = SUCCESS
        encoder.add(step, image)
    encoder.close()
    with Image.open(tmp_path / "film.gif") as file:
        found: Any = file
        assert found.n_frames <= LONGEST_GIF + 2
        found.seek(found.n_frames - 1)
        last = np.asarray(file.convert("RGB"))
    np.testing.assert_allclose(last, image, atol=8)


def filmed(tmp_path: Path, advance: Any = None) -> None:
    """Films one step in both formats."""
    episode = cell(True, 1, 90)

    def end() -> None:
        episode.over = True

    episode.advance = advance or end
    files = [tmp_path / "film.gif", tmp_path / "film.mp4"]
    write_videos(files, 10.0, [episode], Grid([episode], columns=1, size=64))


def test_a_film_is_whole_or_not_there(tmp_path):
    def broken() -> None:
        raise OSError("the display is gone")

    (tmp_path / "film.gif").write_bytes(b"an older one")
    with pytest.raises(OSError, match="the display is gone"):
        filmed(tmp_path, broken)
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]
    assert (tmp_path / "film.gif").read_bytes() == b"an older one"
    filmed(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "film.gif",
        "film.mp4",
    ]
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF89a")


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_film_that_cannot_be_written_names_its_file(suffix, tmp_path):
    (tmp_path / f"film{suffix}").mkdir()
    with pytest.raises(UserError, match=rf"film\{suffix}: cannot be written \(Is a directory\)"):
        filmed(tmp_path)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_episode_that_is_another_when_played_again_is_an_error(trained):
    source = source_of_run(trained).with_episodes(1, 0)
    (result,) = play(source, source.environment, ("evaluate",), 3)
    (episode,) = result.episodes
    again = EpisodeReplay(result, episode, 64)
    again.advance()
    episode.actions[1] = -episode.actions[1]
    with pytest.raises(RunError, match="not a function of seed and actions"):
        again.advance()
    again.close()
    assert isinstance(result, EvaluationResult)


DRAWN = """
import sys
import numpy as np
from qamx.cli import main
from qamx.envs import OGBenchEnvironment, Renderable

code = main(sys.argv[1:])
for name in ("cube-single-play", "antmaze-medium-navigate"):
    pair = [OGBenchEnvironment(name, 1) for _ in range(2)]
    rng = np.random.default_rng(0)
    seen, drawn = (env.reset(4) for env in pair)
    assert isinstance(pair[1], Renderable)
    for step in range(3):
        np.testing.assert_array_equal(seen, drawn)
        image = pair[1].render(64)
        assert image.dtype == np.uint8 and image.shape[1:] == (64, 3) and image.std() > 10
        action = rng.uniform(-1, 1, pair[0].action_size).astype(np.float32)
        seen, drawn = (env.step(action).observation for env in pair)
raise SystemExit(code)
"""


def test_a_video_is_drawn_without_a_display_and_changes_nothing(trained, tmp_path):
    """In a process of its own: MuJoCo looks at how to draw when it is first imported."""
    from PIL import Image

    out = tmp_path / "film.gif"
    options = ["--episodes", "1", "--size", "64", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", DRAWN, "video", str(trained), *options],
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "0 of 1 episodes solved, 10 steps a second" in done.stdout
    with Image.open(out) as file:
        found: Any = file
        assert 130 < found.n_frames <= LONGEST_GIF + 2
        assert found.size == (68, 64 + 14 + 4)
        found.seek(found.n_frames - 1)
        last = np.asarray(file.convert("RGB")).astype(int)
    assert (abs(last - FAILURE).max(axis=-1) < 8).sum() > 150


def test_a_video_with_what_does_not_draw_is_refused(trained, monkeypatch, capsys):
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert main(["video", str(trained)]) == 2
    said = capsys.readouterr().err
    assert "MUJOCO_GL=nonsense does not draw here (RuntimeError: invalid value" in said
    assert "Traceback" not in said


def test_the_way_to_draw_is_looked_for_once_and_its_absence_explained(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    tried: list[str] = []
    works = {"egl": False, "osmesa": True}

    def probe(code: str, MUJOCO_GL: str) -> tuple[bool, str]:
        tried.append(MUJOCO_GL)
        return works[MUJOCO_GL], "no library"

    monkeypatch.setattr(processes, "probe", probe)
    environment = {}
    monkeypatch.setattr(replay.os, "environ", environment)
    replay.choose_backend(required=True)
    assert (tried, environment) == (["egl", "osmesa"], {"MUJOCO_GL": "osmesa"})
    replay.choose_backend(required=True)
    assert len(tried) == 2
    environment.clear()
    works["osmesa"] = False
    with pytest.raises(UserError, match="apt-get install libegl1"):
        replay.choose_backend(required=True)
    replay.choose_backend(required=False)
    assert environment == {}
