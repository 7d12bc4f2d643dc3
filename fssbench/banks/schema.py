"""The structure of a bank's HDF5 file, checked before anything in it is read.

Every object that a bank may have is described here. Whatever else there is, or whatever is described and is not so,
ends in a `ValueError` that says what was expected and found.
"""

from __future__ import annotations

import h5py

from fssbench.banks.structure import Kind, Structure

ATTRIBUTES = ("creator", "dataset", "pool", "protocol", "note", "fingerprint", "image_fingerprint")

CLASSES = {"id": Kind(("classes",)), "name": Kind(("classes",), "text", 1000)}
IMAGES = {
    "id": Kind(("images",), "text", 255),
    "height": Kind(("images",)),
    "width": Kind(("images",)),
    "sha256": Kind(("images", "32"), "uint8"),
}
MASKS = {"image": Kind(("masks",)), "class_id": Kind(("masks",)), "sha256": Kind(("masks", "32"), "uint8")}
EPISODES = {
    "classes": Kind(("episodes", "ways")),
    "support": Kind(("episodes", "ways", "shots")),
    "query": Kind(("episodes",)),
    "run": Kind(("episodes",)),
    "group": Kind(("episodes",)),
    "auxiliary": Kind(("episodes", "ways", "auxiliary")),
}
FOLD = {"classes": Kind(("fold classes",))}
ANNOTATION_KINDS = (
    *("box", "scribble", "point"),
    *(f"{quality}-{level}" for quality in ("eroded", "dilated", "shifted", "ragged", "boxed") for level in range(1, 6)),
)
ANNOTATIONS = {"image": Kind(("pairs",)), "class": Kind(("pairs",))}


def check_structure(file: h5py.File) -> None:
    """Raises `ValueError` unless the file has a bank's groups, columns, types, shapes and storage, and nothing else."""
    check = Structure(file)
    members = check.members("/", {"classes", "images", "masks", "folds"}, {"annotations"})
    for name in ATTRIBUTES:
        check.attribute("/", name)
    sizes: dict[str, int] = {"32": 32}
    check.columns("/classes", CLASSES, sizes)
    full = check.columns("/images", IMAGES, sizes, blobs="images")
    if check.columns("/masks", MASKS, sizes, blobs="masks") != full:
        raise ValueError("images without masks, or masks without images")
    folds = check.members("/folds", (), None)
    for fold in check.numbers("/folds", folds):
        draws = check.members(f"/folds/{fold}", {"classes"}, None) - {"classes"}
        check.columns(f"/folds/{fold}", FOLD, {}, others=draws)
        for shots in check.numbers(f"/folds/{fold}", draws):
            group = f"/folds/{fold}/{shots}"
            columns = set(check.members(group, EPISODES.keys() - {"auxiliary"}, {"auxiliary"}))
            own = {"shots": int(shots)}
            check.columns(group, {name: EPISODES[name] for name in sorted(columns)}, own)
    if "annotations" in members:
        for kind in sorted(check.members("/annotations", (), ANNOTATION_KINDS)):
            check.attribute(f"/annotations/{kind}", "rule")
            if check.columns(f"/annotations/{kind}", ANNOTATIONS, {}, blobs="pairs") != full:
                raise ValueError(f"/annotations/{kind}: annotations in an index bank, or none in a full one")
