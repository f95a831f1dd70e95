"""Runs that differ in their seed alone are one setting; settings are compared with a baseline."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from src.metrics.by_image import Counts, miou
from src.results.runs import IMAGES, RunResult

_RESAMPLES = 2000
_NAMED = 3  # values by which a label tells runs apart for which the same was typed
# https://www.itl.nist.gov/div898/handbook/eda/section3/eda3672.htm, for 1 to 20 degrees of freedom
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds (with n - 1; None with one seed)."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread | None":
        known = [value for value in values if value is not None]
        return cls(fmean(known), stdev(known) if len(known) > 1 else None) if known else None


Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """Of two settings' mIoU, with 95 % intervals.

    over_seeds: what other seeds may give; None with fewer than two seeds that both settings have.
    over_images: what other images may give; None where the runs have no by_image.csv.
    """

    mean: float
    over_seeds: Interval | None = None
    over_images: Interval | None = None

    @property
    def is_clear(self) -> bool:
        """Whether both intervals are known and exclude 0."""
        both = (self.over_seeds, self.over_images)
        return all(interval is not None and not interval[0] <= 0 <= interval[1] for interval in both)


@dataclass(frozen=True)
class Setting:
    label: str
    overrides: tuple[str, ...]
    runs: tuple[RunResult, ...]

    @property
    def images(self) -> set[tuple]:
        """On which images its runs were evaluated, and whether they were trained on them."""
        keys = ("data", "split", "num_images")
        return {(*(run.metrics.get(key) for key in keys), run.has_seen_its_images) for run in self.finished}

    @property
    def roots(self) -> set[str]:
        """Where the images of its evaluations lie; trainings do not record it."""
        return {run.metrics["root"] for run in self.finished if run.metrics.get("root")}

    @property
    def finished(self) -> list[RunResult]:
        return [run for run in self.runs if run.last is not None]

    @property
    def seeds(self) -> dict[int | None, list[RunResult]]:
        """The finished runs of each seed: one, or several if a command was repeated."""
        found: dict[int | None, list[RunResult]] = {}
        for run in self.finished:
            found.setdefault(run.seed, []).append(run)
        return found

    @property
    def last(self) -> Spread | None:
        return self._over_seeds(lambda run: run.last)

    @property
    def best(self) -> Spread | None:
        return self._over_seeds(lambda run: run.best)

    @property
    def hours(self) -> Spread | None:
        return self._over_seeds(lambda run: run.hours)

    def iou(self, name: str) -> Spread | None:
        """Of a class."""
        return self._over_seeds(lambda run: run.iou.get(name))

    def _over_seeds(self, value: Callable[[RunResult], float | None]) -> Spread | None:
        """A repetition is no other seed: the runs of a seed count as their mean."""
        means = [Spread.of([value(run) for run in runs]) for runs in self.seeds.values()]
        return Spread.of([one.mean for one in means if one])


@dataclass(frozen=True)
class Comparison:
    """Settings, the best first; failed ones last.

    common: the overrides that all runs share.
    baseline: the setting that the others are compared with.
    """

    settings: tuple[Setting, ...]
    common: tuple[str, ...]
    baseline: Setting

    @property
    def classes(self) -> list[str]:
        """In the order of the train ids; those of the first finished run."""
        runs = [run for setting in self.settings for run in setting.finished]
        return list(runs[0].metrics.get("classes") or []) if runs else []


def compare(runs: Sequence[RunResult], baseline: str | None = None) -> Comparison:
    """Groups runs by what they varied.

    Args:
        baseline: the label of a setting, or a part of it that no other setting has; None = of the settings
            that have results, the one with the fewest overrides, and of several the first: job 0 of a sweep.

    Raises ValueError if there is no such setting.
    """
    common = set.intersection(*(set(run.overrides) for run in runs)) if runs else set()
    grouped: dict[tuple[str, ...], list[RunResult]] = {}
    for run in runs:
        grouped.setdefault(tuple(sorted(_varied(run, common))), []).append(run)
    settings = []
    parts = [part for members in grouped.values() for part in _by_recipe(members)]
    for members, unlike in parts:
        varied = (*_varied(members[0], common), *unlike)
        label = " ".join(varied) or _name(members, len(parts))
        label += (
            " (trained on some of these images)" if any(run.has_seen_its_images for run in members) else ""
        )
        settings.append(Setting(label, varied, tuple(members)))
    if baseline is None:
        judged = [setting for setting in settings if setting.finished] or settings
        first = min(judged, key=lambda setting: len(setting.overrides))
    else:
        exact = [s for s in settings if baseline in (s.label, " ".join(s.overrides))]
        found = exact or [s for s in settings if baseline in s.label]
        if len(found) != 1:
            raise ValueError(
                f"{baseline}: {'several settings have' if found else 'no setting has'} this in their name. "
                f"There are: {'; '.join(s.label for s in settings)}"
            )
        (first,) = found
    ordered = sorted(settings, key=lambda s: -(s.last.mean if s.last else -1))
    shared = tuple(o for o in runs[0].overrides if o in common) if runs else ()
    return Comparison(tuple(ordered), shared, first)


def _by_recipe(runs: Sequence[RunResult]) -> list[tuple[list[RunResult], tuple[str, ...]]]:
    """Runs for which the same was typed, apart where they computed something else: a file of conf/ was edited
    in between, the weights or the images have changed. With each part, the values that tell it
    from the others, as overrides."""
    parts: list[tuple[Mapping[str, Any], list[RunResult]]] = []
    # Last, those that left no config, and before them those without results: they are no part alone.
    for run in sorted(runs, key=lambda run: (not run.recipe, IMAGES not in run.recipe)):
        same = [members for recipe, members in parts if not (run.recipe and _unlike(recipe, run.recipe))]
        if same:
            same[0].append(run)
        else:
            parts.append((run.recipe, [run]))
    keys = sorted({key for recipe, _ in parts for key in _unlike(parts[0][0], recipe)})
    more = (f"and {len(keys) - _NAMED} more",) if len(keys) > _NAMED else ()
    return [
        (members, (*(f"{key}={_brief(recipe.get(key))}" for key in keys[:_NAMED]), *more))
        for recipe, members in parts
    ]


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The keys with another value. A key that another version of the code does not have is off there."""
    off = (None, False)
    return {
        key
        for key in one.keys() | other.keys()
        if (a := one.get(key)) != (b := other.get(key)) and not (a in off and b in off)
        if key != IMAGES or (a and b)  # a run without results has seen none
    }


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 16 else f"{text[:16]}..."


def _varied(run: RunResult, common: Set[str]) -> tuple[str, ...]:
    return tuple(override for override in run.overrides if override not in common)


def _name(members: Sequence[RunResult], settings: int) -> str:
    """Of runs without overrides of their own."""
    return "(no changes)" if settings > 1 else members[0].directory.name if len(members) == 1 else "all runs"


def difference(one: Setting, other: Setting) -> Difference | None:
    """mIoU after the last epoch of `one` minus that of `other`; None if they were evaluated on other images.

    It is paired: runs with the same seed, on the same images. The interval over seeds is that of Student's t
    distribution; with two seeds it is 13 times as wide as the standard error, and rightly so. Runs of the
    same seed count as their mean. The interval over images is a bootstrap: 2,000 times as many images as
    there are are drawn, with repetition, and the mIoUs are computed from the pixel counts of the drawn
    images. Settings without a common seed are compared by their means, without intervals.
    """
    if one is other or one.last is None or other.last is None or one.images != other.images:
        return None
    if one.roots and other.roots and one.roots != other.roots:
        return None
    ones, others = one.seeds, other.seeds
    common = [seed for seed in ones if seed in others]
    if not common:
        return Difference(one.last.mean - other.last.mean)
    differences = [_mean_last(ones[seed]) - _mean_last(others[seed]) for seed in common]
    pairs = [(ones[seed], others[seed]) for seed in common]
    return Difference(fmean(differences), _over_seeds(differences), _over_images(pairs))


def _mean_last(runs: Sequence[RunResult]) -> float:
    return fmean(run.last for run in runs if run.last is not None)


def _over_seeds(differences: Sequence[float]) -> Interval | None:
    number = len(differences)
    if number < 2:
        return None
    mean, half = fmean(differences), student(number - 1) * stdev(differences) / number**0.5
    return mean - half, mean + half


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t distribution, to a hundredth."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    normal = 1.95996  # and the first term of its expansion in 1 / freedom
    return normal + (normal**3 + normal) / (4 * freedom)


def _over_images(pairs: Sequence[tuple[list[RunResult], list[RunResult]]]) -> Interval | None:
    counted = [[[run.by_image or {} for run in runs] for runs in pair] for pair in pairs]
    images = sorted(set.intersection(*(set(counts) for pair in counted for runs in pair for counts in runs)))
    if len(images) < 2:
        return None
    drawn = np.random.default_rng(0).multinomial(
        len(images), [1 / len(images)] * len(images), size=_RESAMPLES
    )

    def resampled(counts: Counts) -> np.ndarray:
        stacked = np.stack([counts[name] for name in images])
        return miou((drawn @ stacked.reshape(len(images), -1)).reshape(-1, *stacked.shape[1:]))

    def mean(runs: list[Counts]) -> np.ndarray:
        return np.mean([resampled(counts) for counts in runs], axis=0)

    values = np.mean([mean(ones) - mean(others) for ones, others in counted], axis=0)
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
