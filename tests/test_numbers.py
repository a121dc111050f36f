"The numbers in README, in the pages behind it and in the model cards are those of nbs/results, and of the code."

import json
import re
import runpy
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from tiny import assert_says

from millivid.cli import RELEASE_DEMO, DemoOptions
from millivid.experiments.report import experiment_of, format_comparison, read_comparison, rollout_tokens
from millivid.experiments.reproduce import MAIN_ROWS, ROWS, SEPARATING, Settings
from millivid.pipeline import MINI_EXPERIMENTS, MINI_MODELS, PACKAGED, PAPER_EXPERIMENTS
from millivid.plots import BOUNDS
from millivid.release import RELEASE_FILES, release_megabytes
from millivid.worlds.rooms import RUNNING_EXAMPLE, lattice_poses, make_test_episode

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "nbs"))
import _emergence as emergence  # noqa: E402

RESULTS = ROOT / "nbs" / "results"
RESULT = read_comparison(RESULTS / "comparison.json")
README = " ".join((ROOT / "README.md").read_text().split())
FRONT = [*(f"{name}_long" for name in MINI_MODELS), "autoencoded", "copy_pose"]  # the rows of README
SHIPPED = {name: f"{name}_long" for name in MINI_MODELS}  # the rows whose weights are in the package
TABLE = [*SHIPPED.values(), *(name for name in BOUNDS if name != "repeat_last")]


def folder(name):
    return PACKAGED / f"mini-{name.replace('_', '-')}"


def prose(name):
    "What a notebook says in words."
    cells = json.loads((ROOT / "nbs" / f"{name}.ipynb").read_text())["cells"]
    return " ".join(" ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown").split())


def test_the_table_of_the_readme_is_that_of_the_comparison():
    text = (ROOT / "README.md").read_text()
    assert format_comparison(RESULT, rows=FRONT) in text and text.count("| PSNR") == 1


def gain(model):
    "How much the last thousand steps before the decay improved the held-out loss: means of three evaluations."
    loss, end = dict(model["held_out_curve"]), round((1 - model["training"]["decay_fraction"]) * model["steps"])
    after, before = (np.mean([loss[last - ago] for ago in (0, 200, 400)]) for last in (end, end - 1_000))
    return 1 - after / before


@pytest.mark.parametrize("name", SHIPPED)
def test_cards_give_the_numbers_of_their_row(name):
    text, model = (folder(name) / "README.md").read_text(), RESULT["models"][SHIPPED[name]]
    for metric in ("psnr", "psnr_seen"):
        assert format_comparison(RESULT, metric, rows=TABLE) in text
    history = json.loads((folder(name) / "history.json").read_text())
    assert history["held_out"][-1]["loss"] == model["held_out_loss"] and f"{model['steps']:,} steps" in text
    losses = re.findall(r"(0\.\d{4}) at step (\d+)", text)
    assert len(losses) > 3 and all([int(step), float(loss)] in model["held_out_curve"] for loss, step in losses)
    training, settings = model["training"], RESULT["settings"]
    assert_says(text, f"improved it by {gain(model):.0%}", f"{model['parameters'] / 1e6:.1f} million parameters",
                f"{model['tokens_per_step']} tokens a step", f"{settings['rooms']:,} rooms",
                f"batch {training['batch_size']}", f"warm-up {training['warmup_steps']} steps",
                f"last {training['decay_fraction']:.0%}", f"{settings['episodes']} test episodes",
                f"{settings['context']} context and {settings['generated']} generated frames",
                f"{settings['sampling_steps']} noise levels")


def test_the_tokenizers_card_gives_its_last_held_out_numbers():
    last = RESULT["tokenizers"]["tokenizer"]["held_out"]
    assert json.loads((folder("tokenizer") / "history.json").read_text())["held_out"][-1] == last
    levels = " / ".join(f"{last[f'psnr_level{level}']:.1f}" for level in range(3))
    assert f"{levels} dB" in (folder("tokenizer") / "README.md").read_text()


# ---- what README says in words ---------------------------------------------------------------------------------------

def test_the_comparison_was_made_with_the_default_settings_and_has_every_row():
    defaults = json.loads(json.dumps(asdict(Settings())))
    assert {name: RESULT["settings"][name] for name in defaults} == defaults
    assert set(RESULT["models"]) == set(ROWS) and set(RESULT["rows"]) == {*ROWS, *BOUNDS}


def test_the_readme_counts_what_the_defaults_say():
    settings, demo, words = Settings(), DemoOptions(), {4: "four", 8: "eight", 16: "sixteen"}
    lessons = [path for path in (ROOT / "nbs").glob("[01]*.ipynb") if not path.name.startswith("00")]
    assert_says(README, f"{settings.episodes} test episodes", f"given {settings.context} frames",
                f"{settings.generated} generated frames", f"{settings.long_steps:,} steps",
                f"{words[len(lessons)]} lessons", f"{demo.out}/comparison.mp4",
                f"{words[demo.episodes]} long videos with {words[len(MINI_MODELS)]} models")
    for model in map(RESULT["models"].get, SHIPPED.values()):
        assert model["steps"] == settings.long_steps and f"{model['tokens_per_step']} tokens a step" in README
        assert experiment_of(model).video.transformer == MINI_EXPERIMENTS["millivid"].video.transformer
    assert list(ROWS)[:len(MAIN_ROWS)] == list(MAIN_ROWS) == list(MINI_EXPERIMENTS)


def test_what_is_left_between_millivid_and_upscaling():
    long, short = ({name: RESULT["rows"][name]["psnr"][span]["mean"] for name in RESULT["models"]}
                   for span in ("long", "short"))
    ours, small, plan, windows, upscaling = (long[name] for name in ("millivid", "rollout_upscale_smaller",
                                             "millivid_longer_plan", "millivid_larger_windows", "rollout_upscale"))
    assert abs(ours - small) < .1 and max(RESULT["models"]["rollout_upscale_smaller"]["tokens_per_step"] - 32, 72) == 72
    plans = [RESULT["levels"][name]["2"]["long"] for name in ("millivid_longer_plan", "rollout_upscale")]
    assert_says(prose("13_why"), f"no better than MilliVid: {ours:.1f} dB both ({short['rollout_upscale_smaller']:.1f} "
                f"and {short['millivid']:.1f} at the short horizon)",
                f"a plan of 64 frames brings MilliVid {plan - ours:.1f} dB".replace(" 0.", " ."),
                f"({plans[0]:.1f} and {plans[1]:.1f} dB). Larger windows bring it {windows - ours:.1f} dB, and "
                f"{short['millivid_larger_windows'] - short['millivid']:.1f} at the short horizon. Upscaling is "
                f"{upscaling - ours:.1f} dB ahead")
    predicted = [round(experiment_of(RESULT["models"][name]).predicted_tokens) for name in
                 ("millivid_longer_plan", "millivid_larger_windows", "rollout_upscale", "millivid")]
    assert predicted == [43, 53, 67, 32] and "43 to 67 instead of 32" in prose("13_why")


SEEDED = ("millivid_long", "framepack_long", "full_resolution_long", "rollout_upscale_long")


def test_every_seed_gives_the_same_answer():
    assert RESULT["seed_numbers"] == {name: [0, 1, 2] for name in RESULT["seed_numbers"]}
    means = {name: {span: np.array(RESULT["seeds"][name]["psnr"][span]) for span in ("short", "long")}
             for name in SEEDED}
    for name, spans in means.items():
        assert all(spans[span][0] == RESULT["rows"][name]["psnr"][span]["mean"] for span in spans)
    ours = means["millivid_long"]["long"]
    leads = {name: ours - means[name]["long"] for name in SEEDED[1:]}
    assert leads["framepack_long"].min() > 8 and leads["full_resolution_long"].min() > 8
    both = np.concatenate([leads["framepack_long"], leads["full_resolution_long"]])
    behind = -leads["rollout_upscale_long"]
    spread = {name: f"{np.ptp(spans['long']):.1f}".lstrip("0") for name, spans in means.items()}
    assert_says(prose("12_results"), f"differ by {spread['millivid_long']} dB at the long horizon",
                f"differ by {spread['framepack_long']} dB, more than its interval",
                f"stays {both.min():.1f} to {both.max():.1f} dB ahead of both baselines, and {behind.min():.1f} to "
                f"{behind.max():.1f} dB behind upscaling")


def test_the_example_of_the_readme_is_as_it_says():
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    names = {}
    exec(code, names)
    frames, video, given = names["episode"].frames, names["video"], Settings().context
    assert_says(code, f"{len(frames)} frames", f"frames[:{given}]",
                f"{video.dtype} {video.shape}: {given} given, {len(video) - given} generated")
    assert (video[:given] == frames[:given]).all() and (video[given:] != frames[given:]).any()


def test_no_other_number_stands_in_the_words_of_the_readme():
    "So that a number that is written there later gets a test, too."
    settings, search = Settings(), runpy.run_path(str(ROOT / "nbs" / "_example.py"))
    _, _, last_seen, _ = search["key_frame"](make_test_episode(RUNNING_EXAMPLE))
    known = {settings.episodes, settings.context, settings.generated, f"{settings.long_steps:,}",
             *(RESULT["models"][name]["tokens_per_step"] for name in SHIPPED.values()),
             95, "2.0",  # of the interval; Apache-2.0
             settings.context - 1 - last_seen, 0, 1}  # how long the wall was out of sight; the ends of the share
    left_out = r"```.*?```|^\|.*?$|`[^`]*`|\]\([^)]*\)"  # code, the table, addresses
    words = re.sub(left_out, "", (ROOT / "README.md").read_text(), flags=re.S | re.M)
    assert {*re.findall(r"\d[\d.,]*\d|\d", words)} == {*map(str, known)}


def test_the_other_pages_count_what_the_defaults_say():
    settings, demo, words = Settings(), DemoOptions(), {3: "three", 8: "eight"}
    assert_says(prose("22_reproduce"), f"takes all {len(ROWS)} rows", f"the first {words[len(MAIN_ROWS)]} rows",
                f"{settings.episodes} episodes and {settings.generated} generated frames")
    assert_says(prose("23_cli"), f"continued for {demo.frames} frames", f"{demo.out}/results.json",
                f"{words[RELEASE_DEMO.episodes]} encoded videos")
    minutes = [RESULT["seconds"][name]["train"] / 60 for name in SHIPPED.values()]
    usual = RESULT["models"].keys() - {*SEPARATING}  # these say themselves how many tokens they read
    most = max(RESULT["models"][name]["tokens_per_step"] for name in usual)
    assert_says(prose("12_results"), f"{len(lattice_poses())} views", f"at most {most} tokens a step",
                f"{settings.long_steps:,} steps in about {round(np.mean(minutes), -1):.0f} minutes of one core")


def test_the_demo_was_made_with_the_default_settings():
    result, demo = json.loads((RESULTS / "demo.json").read_text()), DemoOptions()
    assert (result["episodes"], result["generated_frames"], result["sampling_steps"], result["seed"]) == (
        demo.episodes, demo.frames, demo.sampling_steps, demo.seed)
    assert result["psnr"].keys() >= MINI_MODELS.keys()
    order = sorted(result["psnr"], key=lambda name: -result["psnr"][name]["long"])
    assert order[:4] == ["autoencoded", "copy_pose", "rollout_upscale", "millivid"]


def test_the_appendix_says_what_the_release_costs():
    frames, steps = RELEASE_DEMO.frames, RELEASE_DEMO.sampling_steps
    passes = len(PAPER_EXPERIMENTS["millivid"].schedule().rollout(256, 256 + frames)) * (steps - 1)
    small = [name for name in RELEASE_FILES if name not in ("framepack", "full_resolution")]
    least, most = (sum(map(release_megabytes, names)) / 1e3 for names in (small, RELEASE_FILES))
    assert_says(prose("20_release"), f"generates {frames} frames", f"{passes:,}, each",
                f"at least {least:.1f} GB, with `--baselines` {most:.1f} GB")


def psnr(result, name, horizon="long", value="mean"):
    return result["rows"][name]["psnr"][horizon][value]


def test_the_readme_says_how_the_models_compare():
    curve = RESULT["curves"]["millivid_long"]["psnr"]
    loss = np.mean(curve[:16]) - np.mean(curve[-16:])
    assert f"{loss:.0f} dB over the {len(curve)} frames" in prose("12_results")
    for horizon in ("short", "medium", "long"):
        upscaled = psnr(RESULT, "rollout_upscale_long", horizon)
        assert upscaled > psnr(RESULT, "millivid_long", horizon) > psnr(RESULT, "average_room", horizon) + 9
    for name in ("framepack_long", "full_resolution_long"):
        assert psnr(RESULT, name, value="high") < psnr(RESULT, "average_room", value="low")


def test_results_says_what_a_look_up_does():
    def new(name):
        return RESULT["rows"][name]["psnr_unseen"]["long"]["mean"]

    models = {name: psnr(RESULT, name) for name in RESULT["models"]}
    assert max(models, key=models.get) == "full_resolution_retrieved_long"
    for span in ("short", "medium", "long"):
        best = psnr(RESULT, "full_resolution_retrieved_long", span)
        assert psnr(RESULT, "autoencoded", span) - 2 < best == max(psnr(RESULT, name, span) for name in models)
    assert models["full_resolution_retrieved"] > psnr(RESULT, "copy_pose") > psnr(RESULT, "rollout_upscale_long")
    assert all(psnr(RESULT, "copy_pose", span) > psnr(RESULT, "millivid_long", span) for span in ("short", "long"))
    assert new("copy_pose") < new("average_room") - 1 and min(map(new, ("millivid_long", "rollout_upscale_long"))) > 23
    seen = RESULT["settings"]["frames_seen_in_context"].values()
    assert all(.75 < share < .85 for share in seen)
    assert RESULT["models"]["full_resolution_retrieved"]["steps"] == 1_200
    seen = RESULT["rows"]["full_resolution_retrieved"]["psnr_seen"]["long"]["mean"]
    assert abs(new("full_resolution_retrieved_long") - new("millivid_long")) < .1
    assert_says(prose("12_results"), f"on a new view it has {new('full_resolution_retrieved_long'):.1f} dB",
                f"(upscaling has {new('rollout_upscale_long'):.1f})",
                f"it had {seen:.1f} dB on old views and {new('full_resolution_retrieved'):.1f} on new ones",
                f"MilliVid had {new('millivid'):.1f} there after as many steps", "four of five generated frames")


def test_results_says_what_a_video_costs():
    frames, sampling = RESULT["settings"]["generated"], json.loads((RESULTS / "sampling.json").read_text())["rows"]
    passes = {name: len(rollout_tokens(experiment_of(RESULT["models"][f"{name}_long"]), frames))
              for name in MINI_MODELS}
    assert .45 < passes["rollout_upscale"] / passes["millivid"] < .55
    assert min(passes, key=passes.get) == "full_resolution"
    ours, theirs = (sampling[name]["4"]["milliseconds"] for name in ("millivid", "rollout_upscale"))
    assert_says(prose("12_results"), "so it needs half of MilliVid's passes", f"a frame of MilliVid takes {ours} milli",
                f"one of upscaling {theirs}")


def test_results_says_how_many_noise_levels_are_needed():
    kept = json.loads((RESULTS / "sampling.json").read_text())["rows"]
    score = {name: {int(count): found["psnr"]["mean"] for count, found in scores.items()}
             for name, scores in kept.items()}
    for name in ("millivid", "rollout_upscale"):
        assert score[name][2] < score[name][3] - 1
        assert max(abs(score[name][3] - score[name][count]) for count in (4, 8, 16)) < .2
    assert_says(prose("12_results"), f"FramePack has {score['framepack'][3]:.1f} dB with three and "
                f"{score['framepack'][16]:.1f} with sixteen", f"full resolution {score['full_resolution'][2]:.1f} with "
                f"two and {score['full_resolution'][16]:.1f} with sixteen")


def test_results_says_where_the_models_look():
    kept, found, back = json.loads((RESULTS / "attention.json").read_text()), emergence.look(), 74
    assert found["first"] == kept["first"] and found["same"] == kept["same"] and len(kept["same"]) == 1
    for name, shares in kept["shares"].items():
        np.testing.assert_allclose(found["shares"][name], shares, atol=.01)  # another CPU rounds otherwise
    place = back + kept["same"][0]
    ours, theirs = kept["shares"]["millivid"], kept["shares"]["framepack"]
    assert len(ours) == len(theirs) == back and max(ours) == ours[place]
    said = {"MilliVid gives {}": ours[place], "FramePack gives {} to the newest": theirs[-1],
            "{} to the nine before": sum(theirs[-10:-1]), "{} to all others together": sum(theirs[:-10])}
    assert_says(prose("12_results"), f"back at +{kept['first'] - 127} that was", f"sight {-kept['same'][0]} frames",
                *(text.format(f"{share:.2f}"[1:]) for text, share in said.items()),
                f"{theirs[place]:.4f} to the one"[1:])
    curves = [RESULT["curves"][f"{name}_long"]["psnr"] for name in MINI_EXPERIMENTS]  # MilliVid first, then FramePack
    a, b, c = (f"{curve[0]:.1f}" for curve in curves)
    assert_says(prose("12_results"), f"({a}, {b} and {c} dB)",
                f"FramePack has {curves[1][6]:.1f} dB and MilliVid {curves[0][6]:.1f}")


def test_results_says_how_long_a_memory_lasts():
    long = json.loads((RESULTS / "horizon.json").read_text())
    fall = {name: f"{value['mean']:.2f}".lstrip("0") for name, value in long["fall"].items()}
    assert long["frames"] == 1_024 and long["episodes"] == 16
    for name, curve in long["curves"].items():
        fog = np.array(long["curves"]["average_room"])
        if name in ("millivid", "rollout_upscale"):
            assert (np.array(curve) > fog + 3).all(), name
        elif name in ("framepack", "full_resolution"):
            assert (np.array(curve)[2:] < fog[2:]).all(), name
    blind = long["blind_from"]
    assert_says(prose("12_results"), "From the frame on where no window holds a true frame any more "
                f"(+{blind['millivid']} for MilliVid, +{blind['rollout_upscale']} for upscaling)",
                f"MilliVid loses here {fall['millivid']} dB in a hundred frames, upscaling {fall['rollout_upscale']}",
                f"{long['curves']['millivid'][0]:.1f} dB in the first 32 frames, "
                f"{long['curves']['millivid'][-1]:.1f} in the last")


def test_training_says_when_memory_begins():
    seen = json.loads((RESULTS / "emergence.json").read_text())
    ours, theirs = ({int(step): found for step, found in seen[name].items()} for name in ("millivid", "framepack"))
    assert list(ours) == list(theirs) == [200, 400, 600, 1_200, Settings().long_steps]
    share, long = ({step: found[part][key] for step, found in ours.items()}
                   for part, key in (("attention", "share"), ("psnr", "long")))
    before, after, even = (f"{x:.2f}"[1:] for x in (share[200], share[600], ours[200]["attention"]["even"]))
    assert_says(prose("10_training"), f"from {before} (if", f"it would be {even}) to {after};",
                f"{long[600]:.1f} dB at the long horizon, where the trained model has {long[8_000]:.1f}",
                f"{theirs[8_000]['error']['behind'] / theirs[8_000]['error']['forward']:.0f} times that going forward")
    assert all(found["error"]["behind"] < 1.5 * found["error"]["forward"] for found in ours.values())
    assert all(found["attention"]["share"] < found["attention"]["even"] for found in theirs.values())


@pytest.mark.parametrize("name", ["millivid_plain", "millivid_pose_head"])
def test_without_the_pose_a_small_model_does_not_remember(name):
    assert psnr(RESULT, name, value="high") < psnr(RESULT, "average_room", value="low")
    assert not RESULT["models"][name]["experiment"]["video"]["odometry"]


@pytest.mark.parametrize("horizon", ["short", "medium", "long"])
def test_no_model_beats_the_fog_of_the_second_world(horizon):
    doom = read_comparison(RESULTS / "comparison_doom.json")
    assert doom["settings"]["world"] == "doom"
    for name in MINI_EXPERIMENTS:
        assert psnr(doom, name, horizon) < psnr(doom, "average_context", horizon)


def test_four_levels_tell_the_same_story():
    four = read_comparison(RESULTS / "comparison_4_levels.json")
    assert four["settings"]["levels"] == 4
    assert psnr(four, "millivid", value="low") > psnr(four, "average_room", value="high")
    assert psnr(four, "framepack", value="high") < psnr(four, "average_room", value="low")
    assert 2.5 < four["diagnosis"]["framepack"]["behind"] / four["diagnosis"]["millivid"]["behind"] < 3


def test_the_walk_that_is_known_by_heart():
    shown = next(cell for cell in json.loads((ROOT / "nbs" / "16_own_videos.ipynb").read_text())["cells"]
                 if cell["id"] == "own25")["outputs"][-1]["data"]["text/plain"]
    made, limit = re.search(r"40 frames: ([0-9.]+) dB; by its tokenizer ([0-9.]+)", "".join(shown)).groups()
    assert float(limit) - float(made) < 4
    assert_says(prose("16_own_videos"), f"{made} dB over the 120 frames", f"tokenizer alone has {limit}")
