"""Arguments of a config that no class takes, found before anything is built."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from mmbeit3.config.signatures import Arguments, arguments_of
from mmbeit3.config.types import TypeFinder
from mmbeit3.config.untyped import misspelled_keys
from mmbeit3.utils import InputError, listed

# The keys of a config that training and testing use.
SHARED = (
    *("model", "default_hooks", "custom_hooks", "visualizer", "log_processor"),
    *("env_cfg", "randomness"),
)
PARTS = {
    "build": SHARED,
    "train": (
        *SHARED,
        *("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "auto_scale_lr"),
        *("val_dataloader", "val_cfg", "val_evaluator"),
    ),
    "test": (*SHARED, "test_dataloader", "test_cfg", "test_evaluator"),
    "infer": ("model", "test_dataloader"),
}
# Where a type is looked up, by the key that it stands under; else as its surroundings.
REGISTRIES = {
    "model": ("MODELS", "TASK_UTILS"),
    "init_cfg": ("WEIGHT_INITIALIZERS",),
    "dataset": ("DATASETS",),
    "datasets": ("DATASETS",),
    "pipeline": ("TRANSFORMS",),
    "transforms": ("TRANSFORMS",),
    "switch_pipeline": ("TRANSFORMS",),
    "vis_backends": ("VISBACKENDS",),
    "default_hooks": ("HOOKS",),
    "custom_hooks": ("HOOKS",),
    "visualizer": ("VISUALIZERS",),
    "param_scheduler": ("PARAM_SCHEDULERS",),
    "log_processor": ("LOG_PROCESSORS",),
}
# Where nothing is given but what the config says.
STANDALONE = (("DATASETS",), ("TRANSFORMS",))
EVALUATORS = ("val_evaluator", "test_evaluator")
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
LOOPS = ("train_cfg", "val_cfg", "test_cfg")
# What is taken off a dict before its class is called with the rest.
TAKEN_OFF = {
    "WEIGHT_INITIALIZERS": {"override"},
    "HOOKS": {"priority"},
    "PARAM_SCHEDULERS": {"convert_to_iter_based"},
    "OPTIM_WRAPPERS": {"constructor", "paramwise_cfg"},
}
# The same by key: mmcv's and mmdet's builders read these themselves.
READ_BY_BUILDER = {
    "norm_cfg": {"requires_grad"},
    "dcn": {"fallback_on_stride"},
    "loss_cls": {"bg_cls_weight"},
}
# What stands under these keys is not built by a registry, or from other arguments.
NOT_BUILT = ("nms", "metainfo", "override", "upsample_cfg", "roi_layer")
# Parts of a model that a registry certainly builds.
MODEL_PARTS = re.compile(
    r"(backbone|neck|head|preprocessor|extractor|coder|assigner|sampler|generator|augments|"
    r"detector|norm_cfg|act_cfg|conv_cfg|loss_\w+)$"
)
# Those that models of this project build by their type, never themselves.
BUILT_BY_TYPE = re.compile(r"(backbone|neck|head|extractor|assigner|sampler|generator)(\.\d+)*$")
# Whole numbers, and the least that they may be.
COUNTS = {"batch_size": 1, "num_workers": 0, "max_iters": 1, "max_epochs": 1, "val_interval": 1}
NESTED = ("MODELS", "TASK_UTILS", "TRANSFORMS", "HOOKS", "METRICS")
GROUP_OPTIONS = ("lr_mult", "decay_mult")
MAX_PROBLEMS = 5
SIMILAR = 0.6
ALMOST_EQUAL = 0.85


def check_arguments(cfg: Config, entry: str) -> None:
    """Make sure that every argument in a config is one that its class takes.

    Args:
        cfg: The config.
        entry: What it is for, 'train', 'test' or 'infer', of which each uses a part; 'build' is
            what a Runner builds for either.

    Raises:
        InputError: A class has no such argument, lacks one, or there is no such class.
    """
    problems = list(_Walk(cfg).problems(entry))
    if problems:
        more = len(problems) - MAX_PROBLEMS
        rest = [f"and {more} more of this kind"] if more > 0 else []
        raise InputError("\n".join(problems[:MAX_PROBLEMS] + rest))


class _Walk:
    """A walk over the parts of a config, each compared with what builds it."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.types = TypeFinder(cfg.get("default_scope"))
        model = cfg.get("model") or {}
        self.is_ours = str(model.get("type")).startswith("mmbeit3.")

    def problems(self, entry: str) -> Iterator[str]:
        for key in PARTS[entry]:
            value = self.cfg.get(key)
            if value is None:
                continue
            if key in LOADERS and entry == "infer":
                yield from self._pipeline(f"{key}.dataset", value.get("dataset"))
            elif key in LOADERS:
                yield from self._loader(key, value)
            elif key in LOOPS:
                yield from self._loop(key, value)
            elif key in EVALUATORS:
                yield from self._evaluator(key, value)
            elif key == "optim_wrapper":
                yield from self._optim_wrapper(key, value)
            elif key == "default_hooks":
                yield from self._default_hooks(key, value)
            elif key in ("env_cfg", "randomness", "auto_scale_lr"):
                yield from self._settings(key, value)
            elif key == "log_processor" and isinstance(value, Mapping) and "type" not in value:
                value = {"type": "LogProcessor", **value}
                yield from self._typed(key, value, ("LOG_PROCESSORS",))
            else:
                given = {"optimizer"} if key == "param_scheduler" else set()
                yield from self._built(key, value, REGISTRIES[key], given)

    def _loader(self, place: str, loader: Mapping[str, Any]) -> Iterator[str]:
        own = arguments_of(DataLoader)
        names = dict.fromkeys((*own.names, "num_batch_per_epoch"), False)
        names["dataset"] = names["sampler"] = True
        yield from self._compare(place, loader, Arguments(names), "DataLoader")
        yield from _wrong_counts(place, loader)
        yield from self._built(f"{place}.dataset", loader.get("dataset"), ("DATASETS",), set())
        for key in ("sampler", "batch_sampler"):
            given = {"dataset", "seed"} if key == "sampler" else {"sampler", "batch_size"}
            yield from self._built(f"{place}.{key}", loader.get(key), ("DATA_SAMPLERS",), given)
        for key in ("collate_fn", "worker_init_fn"):
            yield from self._built(f"{place}.{key}", loader.get(key), ("FUNCTIONS",))

    def _pipeline(self, place: str, dataset: Any) -> Iterator[str]:
        """Check the pipeline of a data set, and nothing else of it."""
        if isinstance(dataset, (list, tuple)):  # of a concatenation, the first
            yield from self._pipeline(f"{place}.0", dataset[0] if dataset else None)
        elif isinstance(dataset, Mapping):
            yield from self._built(
                f"{place}.pipeline", dataset.get("pipeline"), ("TRANSFORMS",), set()
            )
            for key in ("dataset", "datasets"):
                yield from self._pipeline(f"{place}.{key}", dataset.get(key))

    def _loop(self, place: str, loop: Mapping[str, Any]) -> Iterator[str]:
        by_epoch = loop.get("by_epoch", True)
        kinds = {"val_cfg": "ValLoop", "test_cfg": "TestLoop"}
        kind = kinds.get(place, "EpochBasedTrainLoop" if by_epoch else "IterBasedTrainLoop")
        given = {"runner", "dataloader", "evaluator"}
        if "type" not in loop:
            loop = {"type": kind} | {key: v for key, v in loop.items() if key != "by_epoch"}
        yield from self._built(place, loop, ("LOOPS",), given)
        yield from _wrong_counts(place, loop)

    def _evaluator(self, place: str, evaluator: Any) -> Iterator[str]:
        kind = evaluator.get("type") if isinstance(evaluator, Mapping) else None
        is_metric = kind is not None and self.types.find(kind, ("METRICS",)) is not None
        if isinstance(evaluator, Mapping) and "metrics" in evaluator and not is_metric:
            evaluator = evaluator["metrics"]
            place = f"{place}.metrics"
        yield from self._built(place, evaluator, ("METRICS",), set())

    def _optim_wrapper(self, place: str, wrapper: Mapping[str, Any]) -> Iterator[str]:
        if "optimizer" not in wrapper:  # several, which a constructor of their own builds
            return
        typed = {"type": "OptimWrapper", **wrapper}
        yield from self._typed(place, typed, ("OPTIM_WRAPPERS",), set())
        optimizer = wrapper["optimizer"]
        if isinstance(optimizer, Mapping):
            yield from self._built(f"{place}.optimizer", optimizer, ("OPTIMIZERS",), {"params"})
            if isinstance(optimizer.get("lr"), str):
                yield (
                    f"{place}.optimizer.lr is the text {optimizer['lr']!r}, expected a number "
                    "(YAML takes 1e-4 for text: write 1.0e-4)"
                )
        yield from self._clip_grad(f"{place}.clip_grad", wrapper.get("clip_grad"))
        name = wrapper.get("constructor", "DefaultOptimWrapperConstructor")
        constructor = self.types.find(name, ("OPTIM_WRAPPER_CONSTRUCTORS",))
        if constructor is None:
            yield self._no_type(f"{place}.constructor", name, ("OPTIM_WRAPPER_CONSTRUCTORS",), None)
            return
        options = wrapper.get("paramwise_cfg") or {}
        known = _paramwise_options(constructor)
        if not known:
            return
        names, kind = Arguments(dict.fromkeys(known, False)), constructor.__name__
        yield from self._compare(f"{place}.paramwise_cfg", options, names, kind)
        # Whatever else is there becomes a value of the parameter group.
        names = Arguments(dict.fromkeys(GROUP_OPTIONS, False), takes_any=True)
        for key, group in (options.get("custom_keys") or {}).items():
            where = f"{place}.paramwise_cfg.custom_keys[{key!r}]"
            yield from self._compare(where, group, names, kind)

    def _clip_grad(self, place: str, options: Any) -> Iterator[str]:
        if not isinstance(options, Mapping):
            return
        function = clip_grad_value_ if options.get("type") == "value" else clip_grad_norm_
        own = arguments_of(function).without({"parameters"}).names
        names = Arguments({**own, "type": False})
        yield from self._compare(place, options, names, function.__name__, given=())

    def _default_hooks(self, place: str, hooks: Mapping[str, Any]) -> Iterator[str]:
        for name, hook in hooks.items():
            if isinstance(hook, Mapping) and "type" not in hook:
                others = [other for other in hooks if other != name]
                hint = _did_you_mean(name, others)
                yield f"{place}.{name} has no type;{hint} expected dict(type='...', ...)"
            else:
                yield from self._built(f"{place}.{name}", hook, ("HOOKS",), set())

    def _settings(self, place: str, value: Mapping[str, Any]) -> Iterator[str]:
        """Dicts without a type that the Runner reads."""
        if place == "env_cfg":
            keys = ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit")
            yield from self._plain(place, value, keys)
            processes = arguments_of(set_multi_processing).names
            yield from self._plain(f"{place}.mp_cfg", value.get("mp_cfg") or {}, processes)
        elif place == "randomness":
            yield from self._plain(
                place, value, inspect.signature(Runner.set_randomness).parameters
            )
        else:
            yield from self._plain(place, value, ("enable", "base_batch_size"))

    def _plain(self, place: str, value: Mapping[str, Any], keys: Collection[str]) -> Iterator[str]:
        names = Arguments(dict.fromkeys((key for key in keys if key != "self"), False))
        yield from self._compare(place, value, names, "the Runner")

    def _built(
        self,
        place: str,
        node: Any,
        registries: tuple[str, ...],
        given: set[str] | None = None,
        scope: str | None = None,
        certain: bool = True,
    ) -> Iterator[str]:
        """Check a dict with a type, or whatever holds such dicts.

        Args:
            place: Its dotted key.
            node: The part of the config.
            registries: Where its types are looked up.
            given: Arguments that whoever builds it gives; None if that is not known.
            scope: The ``_scope_`` around it.
            certain: Whether a registry builds it; else a type that none has is left alone.
        """
        named = place.endswith(".datasets") and isinstance(node, Mapping) and "type" not in node
        if isinstance(node, (list, tuple)) or named:
            for index, entry in node.items() if named else enumerate(node):
                where = f"{place}.{index}"
                yield from self._built(where, entry, registries, given, scope, certain)
        elif isinstance(node, Mapping):
            scope = node.get("_scope_", scope)
            kind = node.get("type")
            if isinstance(kind, str) or callable(kind):
                yield from self._typed(place, node, registries, given, scope, certain)
            elif given is not None or (self.is_ours and BUILT_BY_TYPE.search(place)):
                hint = " (a list replaces that of a base as a whole)" if place[-1].isdigit() else ""
                yield f"{place} has no type; its keys are {listed(node) or 'none'}{hint}"
            yield from misspelled_keys(place, node, self.is_ours)
            if getattr(kind, "__name__", str(kind)).endswith("Albu"):
                return  # albumentations builds what is in it
            for key, value in node.items():
                if key not in NOT_BUILT and isinstance(value, (Mapping, list, tuple)):
                    inner = REGISTRIES.get(key)
                    sure = inner is not None or MODEL_PARTS.search(key) is not None
                    alone: set[str] | None = set() if inner in STANDALONE else None
                    inner = inner or tuple(dict.fromkeys((*registries, *NESTED)))
                    yield from self._built(f"{place}.{key}", value, inner, alone, scope, sure)

    def _typed(
        self,
        place: str,
        node: Mapping[str, Any],
        registries: tuple[str, ...],
        given: set[str] | None = None,
        scope: str | None = None,
        certain: bool = True,
    ) -> Iterator[str]:
        """Check the arguments of one dict with a type, without what is inside of them."""
        kind = self.types.find(node["type"], registries, scope)
        if kind is None:
            if certain:
                yield self._no_type(place, node["type"], registries, scope)
            return
        taken = TAKEN_OFF.get(registries[0], set())
        taken = taken | READ_BY_BUILDER.get(
            re.sub(r"(\.\d+)+$", "", place).rpartition(".")[2], set()
        )
        name = getattr(kind, "__name__", str(kind))
        options = {key: value for key, value in node.items() if key not in ("type", "_scope_")}
        yield from self._compare(place, options, arguments_of(kind), name, taken, given)

    def _no_type(
        self, place: str, name: Any, registries: tuple[str, ...], scope: str | None
    ) -> str:
        where = place if place.endswith(".constructor") else f"{place}.type"
        return f"{where} is {name!r}: {self.types.explain(name, registries, scope)}"

    def _compare(
        self,
        place: str,
        options: Mapping[str, Any],
        arguments: Arguments,
        kind: str,
        taken: Collection[str] = (),
        given: Collection[str] | None = None,
    ) -> Iterator[str]:
        """Compare the keys of one dict with the arguments of what it is for.

        Args:
            place: Its dotted key.
            options: The dict.
            arguments: What can be given.
            kind: What takes them, for messages.
            taken: Further keys that are taken off before.
            given: Arguments that are given from elsewhere; None if that is not known.
        """
        known = [name for name in (*arguments.names, *taken) if name not in (given or ())]
        for name in options:
            if name in arguments.names or name in taken:
                continue
            if arguments.takes_any and not difflib.get_close_matches(
                name, known, n=1, cutoff=ALMOST_EQUAL
            ):
                continue
            hint = _did_you_mean(name, known) or _inside(place, name, options)
            yield f"{place} has no argument {name!r};{hint} {kind} takes {listed(known, 40)}"
        if given is not None:
            absent = [name for name in arguments.required if name not in {*options, *given}]
            if absent:
                yield f"{place} lacks {listed(absent)}, which {kind} needs"


def _wrong_counts(place: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Say which of :data:`COUNTS` are something else."""
    for key, least in COUNTS.items():
        value = options.get(key)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (is_number and value % 1 == 0 and value >= least):
            yield f"{place}.{key} is {value!r}, expected a whole number of at least {least}"


def _did_you_mean(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=SIMILAR)
    close += [other for other in known if len(other) > 2 and name.startswith(other)]
    return f" did you mean {close[0]!r}?" if close else ""


def _inside(place: str, name: str, options: Mapping[str, Any]) -> str:
    """Point to a part of this one that has a key of this name."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            if name in value:
                return f" did you mean {place}.{key}.{name}?"
            if hint := _inside(f"{place}.{key}", name, value):
                return hint
    return ""


def _paramwise_options(constructor: Callable[..., Any]) -> set[str]:
    """The options of ``paramwise_cfg`` that a constructor reads, by its source."""
    try:
        bases = inspect.getmro(constructor) if inspect.isclass(constructor) else ()
        sources = [inspect.getsource(base) for base in bases if base is not object]
    except (OSError, TypeError):  # a class of a notebook or a program without a file
        return set()
    found = (re.findall(r"paramwise_cfg\.(?:get|pop)\(\s*['\"](\w+)", text) for text in sources)
    return {name for names in found for name in names}
