"""Learns what is normal for a trained model, and from which score on an image is anomalous.

    python calibrate.py --model out/Gorilla                   renews everything that is derived
    python calibrate.py --model out/Gorilla --folds 5         a held-out score for every view
    python calibrate.py --model out/Gorilla --good FOLDER     with photographs of good parts

Gallery, pose check, normal model and threshold come from the train views and from those that were
held out, their poses found as a query's. train.py ends by calling this; an edited point cloud, or
another version of the program, makes it necessary again.
"""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import tyro
from tqdm import tqdm

from anomaly import (
    MINIMAL_COUNT,
    FeatureScorer,
    PosedImages,
    ResidualMemory,
    ScoreDistribution,
    build_memory,
    feature_names,
    fit_normal_model,
    fit_score_distribution,
    make_features,
)
from gaussian_renderer import ObjectRenderer, backend_help, choose_device
from pipeline.calibration import Calibration, CalibrationViews
from pipeline.command_line import run, settle_threads
from pipeline.model_folder import ModelFolder, check_world
from pipeline.open_inspector import InspectionSettings, open_inspector
from pipeline.photographs import add_photographs, inspect_photographs
from pipeline.presets import DETECTION, TRAINING
from pipeline.remembered import refuse_to_forget, remembered
from pipeline.training import Training, held_out_quality, split_training, subset, views_at
from pose_estimation import (
    Gallery,
    Matcher,
    PoseCheck,
    build_gallery,
    calibrate_pose_check,
    far_above_the_rest,
    matcher_names,
    reprojection_shift,
    save_gallery,
    select_matcher,
    view_residuals,
    wrong_views,
)
from report import calibration_report, write_report
from scene import (
    Camera,
    Gaussians,
    InputError,
    atomic_write,
    read_capture,
    read_queries,
    read_train_images,
    refuse_inside,
)

_POINTS = 1000  # of the object, whose place in the image tells two poses apart
_SUSPICIOUS = 1.0  # pixels between input and estimated poses
# Floors: four real objects that were well modelled had .04 to .25 pixels and 22 to 33 dB, one
# whose background did not turn with it 89 pixels and 16.5 dB. Bodies of revolution are found far
# from their input poses but well modelled, hence the second figure beside the pixels.
_LOST, _LOST_PSNR = 0.025, 18.0  # of the image's side; dB of held-out views below which that counts
_LEAST_PSNR = 14.0  # dB, wherever they are found
_MOST_WRONG = 0.25  # of the views, whose poses may be wrong
_CHECKPOINT_EVERY = 1000  # iterations of a fold's training


@dataclass(frozen=True)
class CalibrateConfig:
    """Every knob of a calibration."""

    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """Model folder that train.py wrote."""
    folds: int | None = None
    """5-fold calibration (--folds 5): five extra models give every view a held-out score. From 99
    views on, the 1 % threshold is then an empirical quantile, not an extrapolation. Default: what
    the model was calibrated with, or train.py was told; 0 trains no further models."""
    good: Path | None = None
    """Folder with photographs of good parts at unknown poses, taken at the station: their poses
    are found and their scores are added to those of the held-out views."""
    without_good: bool = False
    """Forget the photographs of good parts that the threshold stands on."""
    source: Annotated[Path | None, tyro.conf.arg(aliases=["-s"])] = None
    """Folder of the object, if it has moved since the training."""
    features: Annotated[str | None, tyro.conf.arg(metavar="|".join(feature_names()))] = None
    """What is compared, instead of the preset's; its scores are kept beside the others."""
    matcher: Annotated[str | None, tyro.conf.arg(metavar="|".join(matcher_names()))] = None
    """Finds coarse poses, instead of the preset's: what detection will use."""
    weights: Path | None = None
    """Folder with weight files, for machines without a network."""
    backend: Annotated[str, tyro.conf.arg(help=backend_help())] = "auto"
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int | None = None
    """CPU threads; default: all cores."""
    iteration: tyro.conf.Suppress[int] = 0  # of the model; this and the next from its config.json
    preset_features: tyro.conf.Suppress[str] = ""


def calibrate(config: CalibrateConfig, if_needed: bool = False) -> Calibration:
    """Calibrates a model folder. With `if_needed`, nothing is done where all fits already.

    Raises InputError for anything that the user can fix.
    """
    folder = ModelFolder(config.model)
    stored, before = folder.load_config(), remembered(folder)
    kept = before.pooled if config.folds is None else {}  # folds that are asked for are made anew
    config = _resolved(config, stored["settings"], before.folds)
    check_folds(config.folds or 0, len(stored["views"]) + len(stored["held_out"]))
    photographs = [] if config.good is None else _good_queries(config.good)
    for read in filter(None, (config.good, config.source)):
        refuse_inside(folder.root, read, "--model (a copy of this one)")
    with folder.lock("--model (a copy of this one)"):
        calibration = _what_fits(config, folder) if if_needed else None
        if calibration is not None:
            print(f"{folder.root} is calibrated: nothing to do")
            return calibration
        if config.good is None and not config.without_good:
            refuse_to_forget(before, folder)
        everything = _read(config, folder, stored)
        gaussians = folder.load_gaussians(config.iteration)
        names = set(stored["held_out"])
        everything, left_out = _without_wrong(everything, names, gaussians)
        training, held_out = (
            subset(everything, tuple(v for v in everything.views if (v.name in names) == held))
            for held in (False, True)
        )
        earlier = folder.derived_files() if before.good else {}
        calibration = _calibrate(config, folder, training, held_out, gaussians, left_out, kept)
        if config.folds:
            calibration = _with_folds(config, folder, everything, calibration)
        if config.good is not None:
            try:
                calibration = _with_photographs(config, folder, calibration, photographs)
            except InputError as error:
                if earlier:  # photographs that can be used are not given up for others
                    folder.restore(earlier)
                    raise InputError(f"{error} (the earlier photographs still count)") from error
                folder.save_calibration(replace(calibration, good=""), config.iteration)
                raise InputError(
                    f"{error} (the calibration now stands on the held-out views alone)"
                ) from error
        _write_report(config, folder)
    for name, scores in calibration.scores.items() if config.good is None else ():
        print(f"{name}: {_threshold(scores)}, from {scores.origin}")
    return calibration


def _write_report(config: CalibrateConfig, folder: ModelFolder) -> None:
    """calibration.html, for people; what keeps it from being written costs nothing else."""
    try:
        inspector = open_inspector(folder, _as_detection(config))
        write_report(folder.report_path, calibration_report(inspector, folder))
    except InputError as error:
        print(f"{folder.report_path.name} was not written: {error}")


def _as_detection(config: CalibrateConfig) -> InspectionSettings:
    """The parts that detection will use."""
    assert config.features is not None
    assert config.matcher is not None
    device, _ = choose_device(config.device, config.backend)
    preset = replace(DETECTION["default"], features=config.features, matcher=config.matcher)
    return InspectionSettings(preset, device, config.backend, config.threads or 1, config.weights)


def _resolved(
    config: CalibrateConfig, settings: dict[str, Any], folds_before: int
) -> CalibrateConfig:
    """The configuration with what the model was made with in every field left None."""
    preset = DETECTION[settings["preset"]]
    known = folds_before or settings.get("folds", 0)
    folds = known if config.folds is None else config.folds
    features, matcher = config.features or preset.features, config.matcher or preset.matcher
    return replace(
        config, folds=folds, features=features, matcher=matcher,
        preset_features=preset.features,
        source=config.source or Path(settings["source"]), iteration=settings["iterations"],
        threads=settle_threads(config.threads, config.backend, features, matcher),
    )  # fmt: skip


def _what_fits(config: CalibrateConfig, folder: ModelFolder) -> Calibration | None:
    """The calibration that is there, if it is whole, of these files, and of as many models."""
    if not folder.calibration_path.is_file():
        return None
    try:
        calibration = folder.load_calibration(config.iteration)
    except InputError as error:
        print(f"the calibration is renewed: {error}")
        return None
    models = max((scores.models for scores in calibration.scores.values()), default=1)
    return calibration if config.folds in (0, models) else None


def check_folds(count: int, views: int) -> None:
    """Raises InputError when so many views cannot be split into `count` folds."""
    if count != 0 and not 2 <= count <= views // MINIMAL_COUNT:
        raise InputError(
            f"--folds {count}: {views} views can be split into 2 to {views // MINIMAL_COUNT} folds "
            f"of at least {MINIMAL_COUNT} views; 0 trains no further models"
        )


def _good_queries(root: Path) -> list[Path]:
    """The photographs in a folder, without those whose folder is called by a kind of defect."""
    queries = read_queries(root)
    for query in queries:
        if query.is_anomalous:
            print(f"left out: {query.image_path}: its folder says that it is defective")
    good = [query.image_path for query in queries if not query.is_anomalous]
    if not good:
        raise InputError(f"--good: '{root}' holds no photograph of a good part: add some")
    return good


def _read(config: CalibrateConfig, folder: ModelFolder, stored: dict[str, Any]) -> Training:
    """All views of the finished model in the order of the capture, at the poses of its training."""
    settings = stored["settings"]
    device, _ = choose_device(config.device, config.backend)
    assert config.source is not None
    try:
        capture = read_capture(config.source, settings["resolution"])
    except InputError as error:
        raise InputError(f"{error} If the capture has moved, name it with --source.") from error
    check_world(folder, capture)
    names = {*stored["views"], *stored["held_out"]}
    views = tuple(view for view in capture.views if view.name in names)
    if len(views) < len(names):
        missing = sorted(names - {view.name for view in views})
        raise InputError(
            f"'{capture.root}' lacks {len(missing)} of the {len(names)} views that "
            f"'{folder.root}' was trained with (the first is {missing[0]}): name the folder of "
            "these images with --source"
        )
    if folder.train_poses_path.is_file():
        views = views_at(views, folder.train_poses_path)
    recipe = {name: settings[name] for name in ("iterations", "sh_degree", "max_gaussians")}
    preset = replace(TRAINING[settings["preset"]], **recipe)
    images, threads = read_train_images(capture, views), config.threads or 1
    return Training(
        capture, views, images, preset, settings["seed"], device, config.backend, threads
    )


def _calibrate(
    config: CalibrateConfig,
    folder: ModelFolder,
    training: Training,
    held_out: Training,
    gaussians: Gaussians,
    left_out: tuple[str, ...] = (),
    kept: Mapping[str, ScoreDistribution] = MappingProxyType({}),  # of folds that are finished
) -> Calibration:
    """Gallery, pose check, normal model and scores of one model, written to its folder.

    What the calibration is going to stand on is written at once: a kill does not forget it.
    """
    model = training.renderer(gaussians.map(lambda t: t.to(training.device).contiguous()))
    train = PosedImages(
        [view.camera for view in training.views], training.images.floats(training.device)
    )
    gallery = build_gallery(model, train.cameras, train.images, training.images.silhouettes)
    save_gallery(gallery, folder.gallery_path)
    older = folder.root / "calibration.npz"  # of versions before 0.4
    for path in (
        folder.normal_model_path, folder.calibration_views_path, folder.report_path, older,
    ):  # fmt: skip
        path.unlink(missing_ok=True)
    calibration = Calibration()
    if len(held_out.views) >= MINIMAL_COUNT:
        memory = build_memory(model, *train)
        check, cameras, trusted = _locate(config, model, gallery, held_out, memory)
        enough = len(trusted) >= MINIMAL_COUNT
        used = trusted if enough else list(range(len(cameras)))
        shift = _pose_shift(model.gaussians, held_out, cameras, used)
        unfit = _why_unfit(model, held_out, cameras)
        if unfit:
            print(f"warning: {unfit}: detect.py will give scores but no verdicts")
            calibration = Calibration(None, shift, unfit=unfit)
        else:
            _warn(len(trusted), len(cameras), shift)
            calibration = Calibration(check, shift)
        if enough and not unfit:
            colours = [held_out.images.colours[number] for number in trusted]
            views = CalibrationViews(colours, [cameras[number] for number in trusted])
            views.save(folder.calibration_views_path)
            remembered = PosedImages(
                [view.camera for view in held_out.views], held_out.images.floats(training.device)
            )
            images = train, views, remembered
            calibration.scores.update(_scores(config, folder, model, memory, *images))
    else:
        _warn_of_few(len(held_out.views))
    good = "" if config.good is None else str(config.good.resolve())
    calibration = replace(calibration, good=good, pooled=dict(kept), left_out=left_out)
    folder.save_calibration(calibration, config.iteration)
    return calibration


def _without_wrong(
    everything: Training, held_out: set[str], gaussians: Gaussians
) -> tuple[Training, tuple[str, ...]]:
    """The views without those at wrong poses, and the names of these."""
    model = everything.renderer(gaussians.map(lambda t: t.to(everything.device).contiguous()))
    cameras = [view.camera for view in everything.views]
    floats = (image.to(everything.device).float().div(255) for image in everything.images.colours)
    is_held_out = [view.name in held_out for view in everything.views]
    suspicious = far_above_the_rest(view_residuals(model, cameras, floats), is_held_out)
    if not suspicious:
        return everything, ()
    images = everything.images.floats(everything.device)
    wrong = wrong_views(model, cameras, images, everything.images.silhouettes, suspicious)
    if len(wrong) > _MOST_WRONG * len(cameras):  # then the model itself is in doubt: see _warn
        return everything, ()
    names = {everything.views[each.number].name: each.shift for each in wrong}
    for name, shift in names.items():
        print(
            f"left out: {name}: the model shows it {shift:.0f} pixels from its input pose; correct "
            "that pose, or train with --refine-poses"
        )
    kept = tuple(view for view in everything.views if view.name not in names)
    return subset(everything, kept), tuple(names)


def _scores(
    config: CalibrateConfig,
    folder: ModelFolder,
    model: ObjectRenderer,
    memory: ResidualMemory,
    train: PosedImages,
    views: CalibrationViews,
    remembered: PosedImages,
) -> dict[str, ScoreDistribution]:
    """Scores of the held-out views by the preset's scorer and by the one that is asked for.

    Writes the normal model.
    """
    scores: dict[str, ScoreDistribution] = {}
    if "residual" in (config.preset_features, config.features):
        images = [image.to(model.gaussians.means).div(255) for image in views.images]
        located = PosedImages(views.cameras, images)
        known, held_out_scores = fit_normal_model(model, memory, train, located, remembered)
        with atomic_write(folder.normal_model_path) as file:
            np.savez_compressed(file, **known.arrays())  # type: ignore[arg-type]
        scores["residual"] = fit_score_distribution(held_out_scores)
    for name in {config.preset_features, config.features or ""} - {"residual", ""}:
        try:
            features, _ = make_features(name, config.weights, model.gaussians.means.device)
        except InputError as error:
            if name == config.features and name != config.preset_features:
                raise
            print(f"no scores by {name} yet, detect.py makes them when it has the weights: {error}")
            continue
        scorer = FeatureScorer(model, features)
        scores[scorer.name] = fit_score_distribution(views.scores(scorer))
    return scores


def _locate(
    config: CalibrateConfig,
    model: ObjectRenderer,
    gallery: Gallery,
    held_out: Training,
    memory: ResidualMemory,
) -> tuple[PoseCheck | None, list[Camera], list[int]]:
    """The pose check, the held-out cameras at poses found as a query's, and which are trusted.

    Only the trusted can say what scores are normal: a query whose pose the check refuses gets no
    verdict either, and at a wrong pose the score says nothing.
    """
    matcher = _matcher(config, gallery, model)
    cameras = [view.camera for view in held_out.views]
    images = held_out.images.floats(held_out.device)
    bar = tqdm(images, desc="calibration", unit="view", file=sys.stderr)
    check, poses = calibrate_pose_check(
        model, matcher, cameras, bar, None, lambda rotations: memory.expect(rotations).mean
    )
    found = [c.at(pose.world_to_camera) for c, pose in zip(cameras, poses, strict=True)]
    trusted = [
        number for number, pose in enumerate(poses) if check is not None and check.accepts(pose.fit)
    ]
    return check, found, trusted


def _matcher(config: CalibrateConfig, gallery: Gallery, model: ObjectRenderer) -> Matcher:
    """The one that detection will use; where its weights cannot be had, what needs none."""
    assert config.matcher is not None
    try:
        return select_matcher(config.matcher, gallery, model, config.weights).matcher
    except InputError as error:
        found = select_matcher("auto", gallery, model, config.weights)
        print(f"calibrated with the matcher {found.matcher.name} instead: {error}")
        return found.matcher


def _pose_shift(
    gaussians: Gaussians, held_out: Training, cameras: list[Camera], used: list[int]
) -> float:
    """Median distance in the image of input from estimated poses, pixels."""
    points = gaussians.means[:: max(1, len(gaussians) // _POINTS)].detach().cpu()
    shifts = [
        reprojection_shift(points, held_out.views[number].camera, cameras[number])
        for number in used
    ]
    return float(np.median(shifts))


def _why_unfit(model: ObjectRenderer, held_out: Training, cameras: list[Camera]) -> str:
    """Why a model can be no measure of anything, in one sentence; "" where it can.

    The pose check learns from the model what is normal, so it cannot tell that the model is wrong.
    """
    quality = held_out_quality(model, held_out)
    found = quality["psnr_object"] or quality["psnr"] or 0.0
    everywhere = _pose_shift(model.gaussians, held_out, cameras, list(range(len(cameras))))
    side = max(cameras[0].width, cameras[0].height)
    lost = everywhere > _LOST * side and found < _LOST_PSNR
    if not lost and found >= _LEAST_PSNR:
        return ""
    where = f", and finds them {everywhere:.0f} pixels from their input poses" if lost else ""
    return (
        f"the model does not show its own held-out views ({found:.1f} dB{where}); check the input "
        "poses, that the background turns with the object or is plain, and --iterations"
    )


def _warn_of_few(held_out: int) -> None:
    print(
        f"warning: {held_out} held-out views are too few for a threshold (at least "
        f"{MINIMAL_COUNT}): detect.py will give scores but no verdicts; use more views, train with "
        "--holdout-every and a smaller number"
    )


def _warn(trusted: int, held_out: int, shift: float) -> None:
    """Says what the held-out views tell of the poses of queries, where that is bad."""
    if trusted < MINIMAL_COUNT:
        print(
            f"warning: of {held_out} held-out views, {trusted} were found again in the model, too "
            "few for a threshold: detect.py will give scores but no verdicts; more views, more "
            "--iterations, --refine-poses or a plain background behind the object help"
        )
    elif shift > _SUSPICIOUS:
        print(
            f"the input poses of the held-out views are {shift:.1f} pixels (median) from those "
            "found in the model: if the input poses are inexact, train with --refine-poses"
        )


def _with_folds(
    config: CalibrateConfig, folder: ModelFolder, everything: Training, calibration: Calibration
) -> Calibration:
    """The scores replaced by those of all views, each by a model that was trained without it.

    Cross-conformal prediction (Vovk 2015). Folds that are finished are not trained again after a
    kill; their folders go when the scores are written.
    """
    names = {config.preset_features, config.features or ""} - {""}
    models = {scores.models for scores in calibration.pooled.values()}
    if names <= set(calibration.pooled) and models == {config.folds}:
        pooled = calibration.pooled
    else:
        pooled = _scores_of_folds(config, folder, everything, names)
    calibration = replace(calibration, scores=calibration.scores | pooled, pooled=pooled)
    folder.save_calibration(calibration, config.iteration)
    shutil.rmtree(folder.root / "folds", ignore_errors=True)
    origin = next(iter(pooled.values())).origin
    print(f"the threshold of {folder.root} now stands on {origin}")
    return calibration


def _scores_of_folds(
    config: CalibrateConfig, folder: ModelFolder, everything: Training, names: set[str]
) -> dict[str, ScoreDistribution]:
    """The scores of all views, by what is compared; models are trained where there are none."""
    from train import optimise  # which imports this file

    check_folds(config.folds or 0, len(everything.views))
    scores: dict[str, list[float]] = {}
    for name in names - {"residual"}:  # before hours of training
        make_features(name, config.weights, everything.device)
    for number in range(config.folds or 0):
        print(f"fold {number + 1} of {config.folds}")
        fold = folder.fold(number, config.folds or 0, [view.name for view in everything.views])
        found = _what_fits(replace(config, folds=0), fold)
        if found is None or not names <= set(found.scores):  # of other features, or cut short
            training, held_out = split_training(everything, config.folds or 0, number)
            path = fold.point_cloud_path(config.iteration)
            if not path.is_file():
                training = replace(training, checkpoint_every=_CHECKPOINT_EVERY)
                gaussians, _ = optimise(training, fold)
                fold.save_gaussians(gaussians, config.iteration)
            gaussians = fold.load_gaussians(config.iteration)
            found = _calibrate(config, fold, training, held_out, gaussians)
        for name, fitted in found.scores.items():
            scores.setdefault(name, []).extend(fitted.scores)
    count = min(map(len, scores.values()), default=0)
    if count < MINIMAL_COUNT:
        raise InputError(
            f"--folds: only {count} views were found again in the models without them: "
            "more --iterations, --refine-poses or a plain background help"
        )
    return {n: fit_score_distribution(s, models=config.folds or 1) for n, s in scores.items()}


def _with_photographs(
    config: CalibrateConfig,
    folder: ModelFolder,
    calibration: Calibration,
    photographs: list[Path],
) -> Calibration:
    """The scores of photographs of good parts added to those of the held-out views.

    A photograph whose pose is not found, or that scores unlike the others, is named and left out.
    """
    assert config.good is not None
    settings = _as_detection(config)
    if calibration.pose_check is None:
        raise InputError(
            "--good: poses of photographs can only be checked with at least "
            f"{MINIMAL_COUNT} held-out views that are found again: train with more"
        )
    inspector = open_inspector(folder, settings)
    found = inspect_photographs(inspector, photographs)
    for path, reason in found.left_out:
        print(f"left out: {path}: {reason}")
    name, before = inspector.scorer.name, inspector.scores
    calibration = add_photographs(
        folder, calibration, inspector, found, config.good, config.iteration
    )
    _say_moved(before, calibration.scores[name])
    return calibration


def _say_moved(before: ScoreDistribution | None, after: ScoreDistribution) -> None:
    old = "none" if before is None else f"{before.threshold().value:.4g}"
    print(f"{_threshold(after)} (was {old}), from {after.origin}")


def _threshold(scores: ScoreDistribution) -> str:
    return f"threshold for 1 % false alarms: {scores.threshold().value:.4g}"


def main() -> None:
    """Command line."""
    run(
        lambda: calibrate(tyro.cli(CalibrateConfig, description=__doc__)),
        "the same command calibrates anew; finished folds are kept",
    )


if __name__ == "__main__":
    main()
