"""Tasks: what is done with the trained models of each, over folders of images and in tests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmengine.config import Config
from mmengine.hooks import Hook

from mmbeit3.inference.image_list import NotListed, Source, list_sources
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError
from mmbeit3.visualization.interactive_page import page_packages

if TYPE_CHECKING:
    from mmbeit3.export.files import Exported
    from mmbeit3.inference.evaluation_outputs import EvaluationOutputs
    from mmbeit3.inference.inferencer import Inferencer
    from mmbeit3.inference.writer import ResultWriter


class Task(ABC):
    """A task, registered in :data:`mmbeit3.registry.TASKS` under its name.

    A config names its task by ``task="..."``; without, it is the one whose ``scope`` its model is
    of. Nothing else needs to know which tasks there are.
    """

    #: The package whose models solve it, where a config names no task.
    scope: ClassVar[str | None] = None
    #: The class that loads its trained models.
    inferencer_type: ClassVar[type[Inferencer]]
    #: The class that writes what is found in images.
    writer_type: ClassVar[type[ResultWriter]]
    #: Options of its own that a run over a folder takes.
    options: ClassVar[tuple[str, ...]] = ()
    #: Options of its writer that a config's visualizer may set.
    drawing: ClassVar[tuple[str, ...]] = ()
    #: Suffix of the files, one for each image, that a test writes; None if it writes one for all.
    prediction_suffix: ClassVar[str | None] = None
    #: Name of the predictions that a test keeps for its report.
    report_predictions: ClassVar[str] = "results.json"
    #: The model that merges views in an augmented test, where a config names none.
    tta_model: ClassVar[str | None] = None
    #: Which of :data:`mmbeit3.export.kinds.KINDS` its models are exported as; None if they are not.
    export_kind: ClassVar[str | None] = None
    #: What the Hugging Face Hub calls it; None if it has no name for it.
    pipeline_tag: ClassVar[str | None] = None
    #: A call of its models in Python, as an example; None if they are not called.
    example: ClassVar[str | None] = 'print(model("photo.jpg"))'
    #: Options that a run over a folder needs, as an example.
    infer_options: ClassVar[str] = ""

    def load(
        self,
        cfg: Config,
        checkpoint: str | Path | Mapping[str, Any] | Exported,
        device: str,
        dtype: str | None,
        compiles: bool,
        force: bool = False,
    ) -> Inferencer:
        """Load a trained model; arguments as :class:`mmbeit3.inference.inferencer.Inferencer`."""
        return self.inferencer_type(cfg, checkpoint, device, dtype, compiles, force)

    def writer(self, model: Any, out_dir: Path, **options: Any) -> ResultWriter:
        """Make what writes the results of a model.

        Args:
            model (Inferencer): What :meth:`load` returned.
            out_dir (Path): Where the results go.
            **options: Of those that ``options`` names, the ones that were given.
        """
        return self.writer_type(out_dir, **options)

    def list_sources(
        self,
        folder: Path,
        out_dir: Path,
        overlays: bool,
        not_listed: NotListed,
        options: Mapping[str, Any],
    ) -> Sequence[Source]:
        """List what a run over a folder predicts: its images, numbered from 1.

        Args:
            folder (Path): The folder, or one image.
            out_dir (Path): Where results go.
            overlays (bool): Whether pictures may be written.
            not_listed (NotListed): Takes what is left out.
            options (Mapping): Those of its own that were given.

        Raises:
            InputError: There are no images, or the options cannot be used.
        """
        drawn, further = overlays and self.writer_type.draws, self.writer_type.further
        return list_sources(folder, out_dir, drawn, further, not_listed)

    @abstractmethod
    def keep_predictions(self, cfg: Config, out: Path, outputs: EvaluationOutputs) -> None:
        """Have the evaluators of a test write the predictions, in place.

        Args:
            cfg (Config): The config.
            out (Path): Where to.
            outputs (EvaluationOutputs): Says where they are until the end.

        Raises:
            InputError: They cannot be kept so.
        """

    def kept_files(self, out: Path) -> str:
        """Say which files :meth:`keep_predictions` has written."""
        return str(out)

    def check_report(self, cfg: Config, predictions: Path) -> None:
        """Make sure that a report on a test can be written.

        Args:
            cfg (Config): The config.
            predictions (Path): Where :meth:`keep_predictions` will keep them.

        Raises:
            InputError: It cannot; there is none for the task, or a package is missing.
        """
        if type(self).write_report is Task.write_report:
            raise InputError(
                f"the task {self.writer_type.task!r} has no report; leave it out", "report"
            )
        page_packages("the report")

    def write_report(
        self, cfg: Config, predictions: Path, out_dir: Path, dataset: Any, image_root: str
    ) -> None:
        """Write a report on a test, if :meth:`check_report` lets it pass.

        Args:
            cfg (Config): The config.
            predictions (Path): Where :meth:`keep_predictions` has kept them.
            out_dir (Path): Where the report goes.
            dataset (BaseDataset): What was tested on.
            image_root (str): Folder of its images.
        """
        raise NotImplementedError

    @abstractmethod
    def drawing_hook(self, cfg: Config, meta: Mapping[str, Any], options: dict[str, Any]) -> Hook:
        """Make the hook that draws the images of a test.

        Args:
            cfg (Config): The config.
            meta (Mapping): The checkpoint's ``meta``.
            options (dict): Those of :class:`mmbeit3.visualization.drawing_hook.DrawingHook`.
        """


def find_task(cfg: Config) -> Task:
    """Find the task of a config: its ``task``, else that of its model's package.

    The scope of ``model.type`` says which, else ``default_scope``; without any it is a detector's.

    Raises:
        InputError: There is no such task.
    """
    TASKS.import_from_location()
    if name := cfg.get("task"):
        return named_task(name)
    kind = cfg.model.get("type", "")
    name = kind if isinstance(kind, str) else f"{kind.__module__}."
    by_scope = {task.scope: task for task in TASKS.module_dict.values() if task.scope}
    scope = name.partition(".")[0] if "." in name else ""
    scope = scope if scope in by_scope else cfg.get("default_scope")
    return by_scope.get(scope, TASKS.module_dict["detection"])()


def named_task(name: str) -> Task:
    """Find a task by its name.

    Raises:
        InputError: There is none of this name.
    """
    TASKS.import_from_location()
    if name not in TASKS.module_dict:
        raise InputError(
            f"the task is {name!r}; expected one of {', '.join(sorted(TASKS.module_dict))}. A task "
            "of your own needs custom_imports = dict(imports=['its.module'])"
        )
    return TASKS.module_dict[name]()
