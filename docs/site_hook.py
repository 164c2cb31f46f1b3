"""What the site has beside the pages of docs/: those of other folders, and those of the API.

The pages stay as GitHub shows them; links between them are turned into those of the site, and of
links to files that are no pages the text stays.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
#: Pages outside of docs/, by their place in the site.
OUTSIDE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "weights.md": "weights/README.md",
} | {
    f"configs/{page.parent.name}.md": page.relative_to(ROOT).as_posix()
    for page in sorted(ROOT.glob("configs/*/README.md"))
}
#: What the pages of the API describe: title, modules or names.
API = {
    "models_in_memory": (
        "Models in memory",
        [
            "mmbeit3.inference.loading.load",
            "mmbeit3.models.acceleration.accelerate",
            "mmbeit3.inference.inferencer.Inferencer",
            "mmbeit3.inference.detector.Detector",
            "mmbeit3.inference.detection_result.DetectionResult",
            "mmbeit3.inference.segmentor.Segmentor",
            "mmbeit3.inference.segmentation_result.SegmentationResult",
            "mmbeit3.inference.retriever.Retriever",
            "mmbeit3.inference.classifier.Classifier",
            "mmbeit3.inference.classification_result.ClassificationResult",
            "mmbeit3.inference.captioner.Captioner",
            "mmbeit3.inference.answerer.Answerer",
            "mmbeit3.inference.judge.Judge",
        ],
    ),
    "commands": (
        "Commands as functions",
        [
            "mmbeit3.config.loading.load_config",
            "mmbeit3.apis.training.train",
            "mmbeit3.apis.testing.test",
            "mmbeit3.apis.pretraining.pretrain",
            "mmbeit3.inference.folder.infer_folder",
            "mmbeit3.inference.reports.report",
            "mmbeit3.apis.exporting.export_model",
            "mmbeit3.apis.publishing",
            "mmbeit3.apis.converting.convert_checkpoint",
            "mmbeit3.apis.label_conversion.convert_labels",
            "mmbeit3.apis.data_report.report_coco",
            "mmbeit3.apis.data_report.report_config",
        ],
    ),
    "networks": (
        "Networks",
        [
            "mmbeit3.models.backbones.beit3.BEiT3",
            "mmbeit3.models.backbones.beit3_adapter.BEiT3Adapter",
            "mmbeit3.models.multimodal.multiway.BEiT3Multiway",
            "mmbeit3.models.multimodal.text.BEiT3Text",
            "mmbeit3.models.multimodal.retrieval.BEiT3Retrieval",
            "mmbeit3.models.classifiers.image_classifier.BEiT3ImageClassifier",
            "mmbeit3.models.classifiers.text_classifier.BEiT3TextClassifier",
            "mmbeit3.models.multimodal.captioning.BEiT3Captioning",
            "mmbeit3.models.multimodal.vqa.BEiT3VQA",
            "mmbeit3.models.multimodal.nlvr2.BEiT3NLVR2",
            "mmbeit3.models.multimodal.pretraining.BEiT3Pretraining",
            "mmbeit3.text.tokenizer.Tokenizer",
        ],
    ),
    "checkpoints": (
        "Checkpoint files",
        [
            "mmbeit3.checkpoint.reading.read_checkpoint",
            "mmbeit3.checkpoint.reading.check_checkpoint",
            "mmbeit3.checkpoint.reading.state_dict_of",
            "mmbeit3.checkpoint.loading.load_backbone",
            "mmbeit3.checkpoint.loading.load_weights",
            "mmbeit3.checkpoint.saving.save_checkpoint",
            "mmbeit3.checkpoint.safe_loading.load_safely",
        ],
    ),
    "evaluation": (
        "Evaluation of your own results",
        [
            "mmbeit3.evaluation.coco.evaluate_coco",
            "mmbeit3.evaluation.retrieval.retrieval_recall",
            "mmbeit3.evaluation.captions.scores.caption_scores",
            "mmbeit3.evaluation.vqa.vqa_accuracy",
            "mmbeit3.ops.softnms.soft_nms",
        ],
    ),
}
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):(<code>)~?")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for place, source in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    for name, (title, objects) in API.items():
        text = "\n\n".join([f"# {title}", *(f"::: {path}" for path in objects)])
        files.append(File.generated(config, f"api/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Turn the links of a page into those of the site."""
    place = page.file.src_uri
    source = OUTSIDE.get(place, f"docs/{place}")
    return site_links(markdown, source, place)


def on_page_content(html: str, **_: Any) -> str:
    """Take Sphinx's roles out of docstrings."""
    return ROLE.sub(r"\1", html)


def site_links(markdown: str, source: str, place: str) -> str:
    """Turn the links of a page into those of the site, but for code.

    Args:
        markdown (str): The page.
        source (str): Its file in the repository.
        place (str): Its file in the site.
    """
    places = {path: where for where, path in OUTSIDE.items()}

    def turned(match: re.Match[str]) -> str:
        image, text, link = match.groups()
        file, mark, anchor = link.partition("#")
        if re.match(r"\w+:", link) or not file:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), file))
        inside = path.removeprefix("docs/") if path.startswith("docs/") else places.get(path)
        if inside is None and (ROOT / path).exists():
            return text
        relative = posixpath.relpath(inside or file, posixpath.dirname(place) or ".")
        return f"{image}[{text}]({relative}{mark}{anchor})"

    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(turned, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(turned, markdown[end:])])
