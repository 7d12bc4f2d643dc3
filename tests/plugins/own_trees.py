"""Small exports as annotation tools write them, all of one scene: rectangles of two classes on noise."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from trees import noise, save, write

HEIGHT, WIDTH = 48, 64
CLASSES = ("spoon", "tea cup")
Box = tuple[int, int, int, int]  # first column and row, last ones + 1
SCENE: dict[str, list[tuple[str, Box]]] = {
    f"shelf {i}": [("tea cup", (4 + i, 6, 30, 30 - i)), ("spoon", (36, 10 + i, 60, 40))] for i in range(7)
}
COLOURS = {"spoon": (250, 50, 83), "tea cup": (51, 221, 255)}


def truth(image: str, name: str) -> np.ndarray:
    """H x W: where a class is."""
    found = np.zeros((HEIGHT, WIDTH), bool)
    for label, (x0, y0, x1, y1) in SCENE[image]:
        if label == name:
            found[y0:y1, x0:x1] = True
    return found


def _pictures(folder: Path, suffix: str = ".jpg") -> None:
    for number, name in enumerate(SCENE):
        save(folder / f"{name}{suffix}", noise(number, HEIGHT, WIDTH))


def _labels(image: str) -> np.ndarray:
    return sum((truth(image, name) * np.uint8(value) for value, name in enumerate(CLASSES, 1)), np.uint8(0))


def _corners(box: Box) -> list[list[int]]:
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def label_maps(root: Path) -> None:
    """images/ and masks/ with class values, names nowhere."""
    _pictures(root / "images")
    for image in SCENE:
        save(root / "masks" / f"{image}.png", _labels(image))


def cvat_masks(root: Path) -> None:
    """CVAT, "Segmentation mask 1.1": colours, and labelmap.txt."""
    _pictures(root / "JPEGImages")
    for image in SCENE:
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for name in CLASSES:
            pixels[truth(image, name)] = COLOURS[name]
        save(root / "SegmentationClass" / f"{image}.png", pixels)
    colours = "".join(f"{name}:{','.join(map(str, colour))}::\n" for name, colour in COLOURS.items())
    write(root / "labelmap.txt", f"# label:color_rgb:parts:actions\nbackground:0,0,0::\n{colours}")


def cvat_xml(root: Path) -> None:
    """CVAT for images 1.1: a polygon, a mask by rows, and a box."""
    _pictures(root / "images")
    lines = ["<annotations><meta><task><labels>", *(f"<label><name>{n}</name></label>" for n in CLASSES)]
    lines.append("</labels></task></meta>")
    for number, (image, objects) in enumerate(SCENE.items()):
        lines.append(f'<image id="{number}" name="{image}.jpg" width="{WIDTH}" height="{HEIGHT}">')
        for name, box in objects:
            x0, y0, x1, y1 = box
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in _corners(box))
            place = f'left="{x0}" top="{y0}" width="{x1 - x0}" height="{y1 - y0}"'
            runs = f'rle="0, {(x1 - x0) * (y1 - y0)}"'
            lines.append(
                f'<mask label="{name}" {runs} {place}/>'
                if name == "spoon"
                else f'<polygon label="{name}" points="{points}"/>'
            )
        lines.append('<box label="spoon" xtl="1" ytl="1" xbr="5" ybr="5"/></image>')
    write(root / "annotations.xml", "\n".join([*lines, "</annotations>"]))


def coco(root: Path) -> None:
    """Roboflow's COCO: the JSON beside the pictures, a placeholder category, a box without mask, text ids."""
    _pictures(root / "train")
    numbers = {name: number for number, name in enumerate(CLASSES, 1)}
    annotations = [
        {"id": f"{image}-{name}", "image_id": image, "category_id": numbers[name], "bbox": [], "iscrowd": 0,
         "segmentation": [[float(v) for point in _corners(box) for v in point]]}
        for image, objects in SCENE.items() for name, box in objects
    ]  # fmt: skip
    annotations.append({"id": "b", "image_id": "shelf 0", "category_id": 1, "segmentation": [], "bbox": [1, 1, 2, 2]})
    annotations.append({"id": "c", "image_id": "shelf 1", "category_id": 1, "segmentation": [[1, 1, 2, 2]]})
    content = {
        "categories": [{"id": 0, "name": "things"}, *({"id": n, "name": name} for name, n in numbers.items())],
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in SCENE],
        "annotations": annotations,
    }
    write(root / "train" / "_annotations.coco.json", content)


def datumaro(root: Path) -> None:
    """Datumaro's own JSON; label 0 is a class."""
    _pictures(root / "images" / "default")
    items = [
        {"id": image, "image": {"path": f"{image}.jpg", "size": [HEIGHT, WIDTH]},
         "annotations": [{"type": "polygon", "label_id": CLASSES.index(name),
                          "points": [v for point in _corners(box) for v in point]} for name, box in objects]}
        for image, objects in SCENE.items()
    ]  # fmt: skip
    labels = {"label": {"labels": [{"name": name} for name in CLASSES]}}
    content = {"dm_format_version": "1.0", "categories": labels, "items": items}
    write(root / "annotations" / "default.json", content)


def labelme(root: Path) -> None:
    """labelme: a JSON beside each picture; a polygon, a rectangle drawn backwards, a point."""
    _pictures(root)
    for image, objects in SCENE.items():
        shapes = [
            {"label": name, "shape_type": "polygon", "points": _corners(box)} if name == "spoon" else
            {"label": name, "shape_type": "rectangle", "points": [list(box[2:]), list(box[:2])]}
            for name, box in objects
        ]  # fmt: skip
        shapes.append({"label": "spoon", "shape_type": "point", "points": [[5, 5]]})
        content = {"shapes": shapes, "imagePath": f"{image}.jpg", "imageData": None}
        write(root / f"{image}.json", {**content, "imageHeight": HEIGHT, "imageWidth": WIDTH})


def yolo(root: Path) -> None:
    """Ultralytics YOLO: data.yaml, images/ and labels/; the last picture has no label file."""
    _pictures(root / "images" / "train")
    for image, objects in list(SCENE.items())[:-1]:
        lines = [
            " ".join([str(CLASSES.index(name)), *(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in _corners(box))])
            for name, box in objects
        ]
        write(root / "labels" / "train" / f"{image}.txt", "\n".join(lines))
    write(root / "data.yaml", f"train: images/train\nnames: [{', '.join(CLASSES)}]\n")


def supervisely(root: Path) -> None:
    """Supervisely: bitmaps and polygons, a data set a folder."""
    _pictures(root / "ds 1" / "img")
    for image, objects in SCENE.items():
        entries = []
        for name, box in objects:
            x0, y0, x1, y1 = box
            file = io.BytesIO()
            Image.new("1", (x1 - x0, y1 - y0), 1).save(file, "PNG")
            data = base64.b64encode(zlib.compress(file.getvalue())).decode()
            shape = {"bitmap": {"data": data, "origin": [x0, y0]}} if name == "spoon" else {
                "points": {"exterior": _corners(box), "interior": []}
            }  # fmt: skip
            kind = "bitmap" if name == "spoon" else "polygon"
            entries.append({"classTitle": name, "geometryType": kind, **shape})
        content = {"size": {"height": HEIGHT, "width": WIDTH}, "objects": entries}
        write(root / "ds 1" / "ann" / f"{image}.jpg.json", content)
    write(root / "meta.json", {"classes": [{"title": name} for name in CLASSES]})


def roboflow_masks(root: Path) -> None:
    """Roboflow: X.jpg, X_mask.png and _classes.csv in one folder."""
    _pictures(root / "train")
    for image in SCENE:
        save(root / "train" / f"{image}_mask.png", _labels(image))
    names = "".join(f"{value}, {name}\n" for value, name in enumerate(CLASSES, 1))
    write(root / "train" / "_classes.csv", f"Pixel Value, Class\n0, background\n{names}9, never seen\n")


def one_class(root: Path) -> None:
    """Kvasir, ISIC and their kin: images/ and masks/ of one class, soft JPEG; only the cups."""
    _pictures(root / "images")
    for image in SCENE:
        (root / "masks").mkdir(exist_ok=True)
        mask = Image.fromarray(truth(image, "tea cup").astype(np.uint8) * 255).convert("RGB")
        mask.save(root / "masks" / f"{image}.jpg", quality=95)


def class_folders(root: Path) -> None:
    """masks/<class>/<image>.png, white on black."""
    _pictures(root / "images")
    for image in SCENE:
        for name in CLASSES:
            save(root / "masks" / name / f"{image}.png", truth(image, name).astype(np.uint8) * 255)


def object_files(root: Path) -> None:
    """<image>_<class>_<n>.png, a file an object, RGBA."""
    _pictures(root / "pictures")
    for image in SCENE:
        for number, name in enumerate(CLASSES):
            grey = truth(image, name).astype(np.uint8)[..., None] * 255
            solid = np.full_like(grey, 255)
            save(root / "annotations" / f"{image}_{name}_{number}.png", np.concatenate([grey] * 3 + [solid], axis=2))


def mmsegmentation(root: Path) -> None:
    """img_dir and ann_dir with train and val below."""
    for place, name in enumerate(SCENE):
        part = "train" if place < 5 else "val"
        save(root / "img_dir" / part / f"{name}.jpg", noise(place, HEIGHT, WIDTH))
        save(root / "ann_dir" / part / f"{name}.png", _labels(name))


TREES: dict[str, Callable[[Path], None]] = {
    f.__name__: f
    for f in (
        label_maps, cvat_masks, cvat_xml, coco, datumaro, labelme, yolo, supervisely, roboflow_masks, one_class,
        class_folders, object_files, mmsegmentation,
    )
}  # fmt: skip
