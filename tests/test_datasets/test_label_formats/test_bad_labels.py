"""Labels that cannot be right are named by file and entry; nothing of a file is believed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from mmbeit3.datasets.label_formats import guess_format, read_labels, write_labels
from mmbeit3.datasets.label_formats.labels import Labels
from mmbeit3.utils import InputError

DATA_YAML = "train: images\nval: images\nnames: [cat, dog]\n"
VOC = """<annotation><filename>{name}</filename><size><width>{width}</width><height>30</height>
<depth>3</depth></size><object><name>cat</name><difficult>{difficult}</difficult><bndbox>
<xmin>1</xmin><ymin>1</ymin><xmax>{right}</xmax><ymax>20</ymax></bndbox></object></annotation>"""


def image(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding=encoding)
    return path


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    folder = tmp_path / "yolo set"
    text(folder / "data.yaml", DATA_YAML)
    for name in ("a", "b c", "ü"):
        image(folder / "images" / f"{name}.jpg")
    text(folder / "labels/a.txt", "1 0.5 0.5 0.5 0.5\n")
    return folder


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 0.5 0.5 0.1 0.1", "the class is 2, expected 0 to 1: there are 2 names"),
        ("-1 0.5 0.5 0.1 0.1", "the class is -1, expected 0 to 1"),
        ("0.5 0.5 0.5 0.1 0.1", "the class is 0.5"),
        ("cat 0.5 0.5 0.1 0.1", "the class is cat"),
        ("0 20 15 10 10", "from 10 to 25, expected shares of the image from 0 to 1; these look"),
        ("0 0.9 0.5 0.5 0.5", "coordinates go from 0.25 to 1.15"),
        ("0 0.5 0.5 0.1", "4 numbers, expected class x y w h"),
        ("0 0.5 0.5 -0.1 0.1", "negative side"),
        ("0 0.5 nan 0.1 0.1", "no finite number"),
        ("0 0.5 0.5 0.1 0.1 extra", "its score is nan"),
    ],
)
def test_lines_of_yolo(line: str, said: str, yolo: Path) -> None:
    text(yolo / "labels/b c.txt", f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(InputError) as caught:
        read_labels(yolo)
    assert re.search(rf"b c.txt, (line 3|object 2): .*({said})", str(caught.value))


def test_images_and_labels_of_yolo_that_lack_the_other(yolo: Path) -> None:
    text(yolo / "labels/lost.txt", "0 0.5 0.5 0.1 0.1\n")
    labels = read_labels(yolo)
    notes = "\n".join(labels.notes)
    assert "images without a label file, which count as empty: 2 (b c.jpg, ü.jpg)" in notes
    assert re.search(r"label files without an image, which are left out: 1 \(.*lost.txt\)", notes)
    assert [len(each.objects) for each in labels.images] == [1, 0, 0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_texts_of_windows(encoding: str, yolo: Path) -> None:
    text(yolo / "labels/a.txt", "0 0.5 0.5 0.5 0.5\r\n", encoding)
    text(yolo / "data.yaml", DATA_YAML.replace("cat", "Kätzchen"), encoding)
    found = read_labels(yolo).images[0].objects[0]
    assert (found.name, found.box) == ("Kätzchen", (10, 7.5, 30, 22.5))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("names: [cat, cat]\ntrain: images", "'cat' twice"),
        ("names: {0: cat, 2: dog}\ntrain: images", "numbered from 0 without a gap"),
        ("names: []\ntrain: images", "no list of classes"),
        ("names: [cat]\ntrain: pictures", "names pictures, but there is no"),
        ("names: [cat]", "names no images"),
        ("names: [cat]\nkpt_shape: [17, 3]\ntrain: images", "pose data set"),
        ("names: [cat", "no YAML"),
        ("a: &a [x, x]\nnames: !!python/object/apply:os.system [ls]", "no YAML"),
    ],
)
def test_data_yaml(content: str, said: str, yolo: Path) -> None:
    text(yolo / "data.yaml", content)
    with pytest.raises(InputError, match=said):
        read_labels(yolo)


def test_parts_of_yolo_and_the_paths_of_roboflow(tmp_path: Path) -> None:
    yaml = "train: ../train/images\nval: ../valid/images\nnames: {0: cat, 1: dog}\n"
    text(tmp_path / "data.yaml", yaml)
    for part, label in (("train", 0), ("valid", 1)):
        image(tmp_path / part / "images/a.jpg")
        text(tmp_path / part / "labels/a.txt", f"{label} 0.5 0.5 0.5 0.5\n")
    with pytest.raises(InputError, match="split: is needed: .* has train, val, which are apart"):
        read_labels(tmp_path)
    assert [found.name for found in read_labels(tmp_path, split="val").objects()] == ["dog"]
    with pytest.raises(InputError, match=r"split: is test; parts that .* names: train, val"):
        read_labels(tmp_path, split="test")


def test_yolo_with_a_list_of_classes_alone(tmp_path: Path) -> None:
    text(tmp_path / "classes.txt", "cat\ndog\n")
    image(tmp_path / "images/a.png")
    text(tmp_path / "labels/a.txt", "1 0.5 0.5 0.5 0.5 0.25\n0 0 0 1 0 1 1 0.5\n")
    found = list(read_labels(tmp_path).objects())
    assert [each.name for each in found] == ["dog", "cat"]
    assert [each.score for each in found] == [0.25, 0.5]
    assert found[1].mask == [[0, 0, 40, 0, 40, 30]]


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    folder = tmp_path / "voc"
    image(folder / "JPEGImages/größe 1.jpg")
    values = {"name": "größe 1.jpg", "width": 40, "right": 40, "difficult": 0}
    text(folder / "Annotations/größe 1.xml", VOC.format(**values))
    return folder


def voc_text(**values: object) -> str:
    known = {"name": "größe 1.jpg", "width": 40, "right": 40, "difficult": 0}
    return VOC.format(**known | values)


def test_boxes_of_voc_count_pixels_from_1(voc: Path) -> None:
    (found,) = read_labels(voc).objects()
    assert found.box == (0, 0, 40, 20)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"width": 41}, r"the image is 41 x 30, but .*größe 1.jpg is 40 x 30"),
        ({"right": 4000}, "object 1: it reaches far beyond its image of 40 x 30"),
        ({"right": -5}, "negative side"),
        ({"right": "x"}, "no finite number"),
        ({"right": ""}, "no finite number"),
    ],
)
def test_files_of_voc(values: dict, said: str, voc: Path) -> None:
    text(voc / "Annotations/größe 1.xml", voc_text(**values))
    with pytest.raises(InputError, match=said):
        read_labels(voc)


def test_labels_of_voc_without_an_image_and_marks(voc: Path) -> None:
    text(voc / "Annotations/lost.xml", voc_text(name="../../secret.jpg"))
    text(voc / "Annotations/größe 1.xml", voc_text(difficult=1))
    notes = "\n".join(read_labels(voc).notes)
    assert re.search(r"labels without an image, which are left out: 1 \(.*lost.xml\)", notes)
    assert "objects marked difficult, which is not read: 1" in notes


def test_two_files_of_voc_for_one_image(voc: Path) -> None:
    text(voc / "Annotations/copy.xml", voc_text())
    with pytest.raises(InputError, match=r"copy.xml labels the image größe 1.jpg, too"):
        read_labels(voc)


@pytest.mark.parametrize(
    "content",
    [
        '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;&b;">]>' + voc_text(name="&c;"),
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + voc_text(name="&x;"),
        '<!DOCTYPE a SYSTEM "http://example.org/a.dtd">' + voc_text(),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-7"])
def test_document_types_are_refused(content: str, encoding: str, voc: Path) -> None:
    head = f'<?xml version="1.0" encoding="{encoding}"?>' * (encoding != "utf-16")
    path = voc / "Annotations/größe 1.xml"
    path.write_bytes(head.encode() + content.encode(encoding))
    with pytest.raises(InputError, match="declares a document type"):
        read_labels(voc)


@pytest.mark.parametrize("encoding", ["gbk", "utf-16", "utf-8-sig"])
def test_xml_in_the_encoding_that_it_names(encoding: str, voc: Path) -> None:
    content = voc_text().replace("<name>cat", "<name>猫").replace("größe 1.jpg", "")
    head = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>'
    text(voc / "Annotations/größe 1.xml", head + content, encoding)
    assert [found.name for found in read_labels(voc).objects()] == ["猫"]


def labelme(path: Path, shapes: list, **values: object) -> Path:
    content = {"shapes": shapes, "imagePath": "a.jpg", "imageWidth": 40, "imageHeight": 30}
    return text(path, json.dumps(content | values))


def shape(kind: str, points: list, **values: object) -> dict:
    return {"label": "cat", "shape_type": kind, "points": points} | values


def test_shapes_of_labelme(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    shapes = [
        shape("rectangle", [[30, 20], [10, 5]]),
        shape("circle", [[20, 15], [20, 5]]),
        shape("line", [[1, 1], [5, 5]]),
        shape("linestrip", [[1, 1], [5, 5], [9, 9]]),
        shape("point", [[1, 1]]),
        shape("polygon", [[1, 1], [9, 1], [9, 9]], group_id=4),
        shape("polygon", [[21, 1], [29, 1], [29, 9]], group_id=4),
        shape("polygon", [[1, 1], [9, 1], [9, 9]], group_id=5),
    ]
    labelme(tmp_path / "a.json", shapes)
    labels = read_labels(tmp_path)
    box, circle, two, one = labels.objects()
    assert (box.box, box.mask) == ((10, 5, 30, 20), None)
    assert [round(value) for value in circle.box] == [10, 5, 30, 25]
    assert len(two.mask) == 2
    assert two.box == (1, 1, 29, 9)
    assert len(one.mask) == 1
    notes = "\n".join(labels.notes)
    for kind in ("line", "linestrip", "point"):
        assert f"{kind} shapes, which have no area and are left out: 1" in notes


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (shape("polygon", [[1, 1], [2, 2]]), "a polygon of 2 points"),
        (shape("polygon", [[1, 1], [2, None], [3, 3]]), "no finite number"),
        (shape("polygon", [1, 2, 3]), "no pairs of numbers"),
        (shape("cuboid", [[1, 1]]), "a cuboid of 1 points"),
        (shape("mask", [[1, 1], [3, 3]], mask="no image"), "its mask cannot be read"),
        (shape("rectangle", [[1, 1], [2, 2]], label=""), "its class is ''"),
        ("text", "a shape is no object"),
    ],
)
def test_bad_shapes_of_labelme(bad: object, said: str, tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    labelme(tmp_path / "a.json", [bad])
    with pytest.raises(InputError, match=said):
        read_labels(tmp_path, "labelme")


@pytest.mark.parametrize("written", ["../images/a.jpg", "..\\images\\a.jpg"])
def test_images_of_labelme_beside_its_folder(written: str, tmp_path: Path) -> None:
    image(tmp_path / "images/a.jpg")
    labelme(tmp_path / "json/a.json", [shape("rectangle", [[1, 1], [5, 5]])], imagePath=written)
    labels = read_labels(tmp_path / "json")
    assert [each.name for each in labels.images] == ["a.jpg"]
    assert labels.root == tmp_path / "images"


HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax"
OUTSIDE = ["../../a.jpg", "/etc/a.jpg", "C:\\a.jpg", "a/../../b.jpg", "..\\a.jpg"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    image_entry = {"id": 1, "file_name": name, "width": 40, "height": 30}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81}
    content = {
        "images": [image_entry],
        "annotations": [box],
        "categories": [{"id": 1, "name": "cat"}],
    }
    text(tmp_path / "coco.json", json.dumps(content))
    text(
        tmp_path / "t.csv",
        f"{HEADER}\n{name},40,30,c,1,1,5,5",
    )
    text(
        tmp_path / "cvat.xml",
        f'<annotations><image name="{name}" width="40" height="30"></image></annotations>',
    )
    for file in ("coco.json", "t.csv", "cvat.xml"):
        with pytest.raises(InputError, match=r"outside of its folder|below a folder"):
            read_labels(tmp_path / file)


def test_tables_of_others(tmp_path: Path) -> None:
    image(tmp_path / "images/a b.jpg")
    rows = "image_path;label;x1;y1;x2;y2\r\na b.jpg;'=cat;1;2;3;4\r\n"
    text(tmp_path / "t.csv", rows, "utf-16")
    (found,) = read_labels(tmp_path / "t.csv", images=tmp_path / "images").objects()
    assert (found.name, found.box) == ("=cat", (1, 2, 3, 4))
    with pytest.raises(InputError, match="size of a b.jpg is not known"):
        read_labels(tmp_path / "t.csv")
    text(tmp_path / "t.csv", "image,x1,y1,x2,y2\n")
    with pytest.raises(InputError, match="the header has no column 'class'"):
        read_labels(tmp_path / "t.csv")


def test_shapes_of_cvat(tmp_path: Path) -> None:
    shapes = """<box label="a" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>
        <polyline label="a" points="1,1;2,2"/><tag label="a"/>
        <ellipse label="a" cx="20" cy="15" rx="5" ry="3"/>
        <mask label="a" rle="1, 2, 1" left="3" top="4" width="2" height="2"/>"""
    start = '<annotations><image name="a.jpg" width="40" height="30">'
    text(tmp_path / "a.xml", f"{start}{shapes}</image></annotations>")
    labels = read_labels(tmp_path / "a.xml")
    turned, ellipse, mask = labels.objects()
    assert [round(value, 6) for value in turned.box] == [15, 5, 25, 25]
    assert [round(value) for value in ellipse.box] == [15, 12, 25, 18]
    assert mask.box == (3, 4, 5, 6)
    assert "<polyline> shapes, which have no area and are left out: 1 (a.jpg)" in labels.notes
    for bad in ("1, 2", "1, -2, 5", "1, 10000000000000, 1", "x", "4"):
        text(tmp_path / "a.xml", f"{start}{shapes}</image></annotations>".replace("1, 2, 1", bad))
        with pytest.raises(InputError, match="a mask has"):
            read_labels(tmp_path / "a.xml")
    text(tmp_path / "a.xml", "<annotations><track/></annotations>")
    with pytest.raises(InputError, match="of a video; export it"):
        read_labels(tmp_path / "a.xml")


def test_tasks_of_label_studio(tmp_path: Path) -> None:
    image(tmp_path / "images/a b.jpg")
    region = {"original_width": 40, "original_height": 30, "score": 0.5}
    value = {"x": 25, "y": 50, "width": 25, "height": 10, "rotation": 0}
    box = region | {"type": "rectanglelabels", "value": value | {"rectanglelabels": ["cat"]}}
    point = region | {"type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["c"]}}
    task = {
        "data": {"image": "/data/upload/1/a%20b.jpg"},
        "annotations": [{"result": []}, {"result": [box, point]}],
    }
    waiting = {"data": {"image": "/data/local-files/?d=images/c.jpg"}, "annotations": []}
    text(tmp_path / "ls.json", json.dumps([task, waiting]))
    labels = read_labels(tmp_path / "ls.json", images=tmp_path / "images")
    (found,) = labels.objects()
    assert found.box == (10, 15, 20, 18)
    assert [each.name for each in labels.images] == ["a b.jpg"]
    notes = "\n".join(labels.notes)
    assert "tasks without annotations, which are left out: 1" in notes
    assert "tasks with several annotations, of which the last is read: 1" in notes
    assert "keypointlabels regions, which have no area or class and are left out: 1" in notes
    brush = {"type": "brushlabels", "value": {"rle": [255] * 40, "brushlabels": ["cat"]}}
    task["annotations"] = [{"result": [region | brush]}]
    text(tmp_path / "ls.json", json.dumps([task]))
    with pytest.raises(InputError, match=r"a region cannot be read: its rle has 4294967295 values"):
        read_labels(tmp_path / "ls.json", images=tmp_path / "images")


def test_sizes_that_are_only_said_take_no_memory(tmp_path: Path) -> None:
    ring = [[1, 1], [9, 1], [9, 9], [1, 1]]
    geometry = {"type": "Polygon", "coordinates": [ring, ring]}
    feature = {"type": "Feature", "properties": {"class": "a"}, "geometry": geometry}
    for width, said in ((2**20, "expected sides of 1 to"), (2**15, "masks are drawn of")):
        known = {"file_name": "a.jpg", "width": width, "height": 2**15}
        collection = {"type": "FeatureCollection", "image": known, "features": [feature]}
        text(tmp_path / "a.geojson", json.dumps(collection))
        with pytest.raises(InputError, match=said):
            read_labels(tmp_path)


def test_holes_far_outside(tmp_path: Path) -> None:
    for hole in ([[1, 1], [1e12, 1], [9, 9]], [[1, 1], [None, 1], [9, 9]], []):
        geometry = {"type": "Polygon", "coordinates": [[[1, 1], [9, 1], [9, 9]], hole]}
        feature = {"type": "Feature", "properties": {"class": "a"}, "geometry": geometry}
        known = {"file_name": "a.jpg", "width": 40, "height": 30}
        collection = {"type": "FeatureCollection", "image": known, "features": [feature]}
        text(tmp_path / "a.geojson", json.dumps(collection))
        with pytest.raises(InputError, match="a ring"):
            read_labels(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"type": "Feature"},
        {"geometry": {"type": "Polygon", "coordinates": [[1, 2]]}},
        {"geometry": {"type": "Polygon", "coordinates": []}},
        {"geometry": None},
        "text",
    ],
)
def test_bad_features(content: object, tmp_path: Path) -> None:
    known = {"file_name": "a.jpg", "width": 40, "height": 30}
    collection = {"type": "FeatureCollection", "image": known, "features": [content]}
    text(tmp_path / "a.geojson", json.dumps(collection))
    with pytest.raises(InputError, match="a feature has no geometry"):
        read_labels(tmp_path)


def test_formats_are_told_by_what_is_there(labels: Labels, tmp_path: Path) -> None:
    for name, path in (
        ("coco", "a.json"),
        ("label-studio", "b.json"),
        ("cvat", "c.xml"),
        ("csv", "d.csv"),
        ("voc", "voc"),
        ("yolo", "yolo"),
        ("labelme", "labelme"),
        ("geojson", "geojson"),
    ):
        write_labels(labels, tmp_path / path, name)
        assert guess_format(tmp_path / path) == name
    assert guess_format(tmp_path / "yolo/data.yaml") == "yolo"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"from: .*its format cannot be told"):
        guess_format(tmp_path / "empty")
    with pytest.raises(InputError, match="there is no file or folder"):
        guess_format(tmp_path / "absent")
    write_labels(labels, tmp_path / "png", "png")
    with pytest.raises(InputError, match="class maps .*, which tell no objects apart"):
        guess_format(tmp_path / "png")
