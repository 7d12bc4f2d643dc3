"""Images and the files that belong to them, one or more each, by the words that their patterns share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fssbench.datasets.own.config import OwnConfig
from fssbench.datasets.own.formats import Found
from fssbench.datasets.own.patterns import PICTURES, Groups, image_name, words
from fssbench.errors import DataError

Partner = tuple[Path, Groups]


def paired(
    config: OwnConfig, pattern: str, partners: list[Partner], found: Found, what: str
) -> Iterator[tuple[str, Path, list[Partner]]]:
    """(image id, image, its partners) by id. What is alone is told to `found`; `what` a partner is.

    Raises `DataError` where there are no images, no pairs, or two images of one name.
    """
    images_pattern = config.images_pattern
    shared = [word for word in words(images_pattern) if word in words(pattern)]
    by_key: dict[tuple[str, ...], list[Partner]] = {}
    for partner in partners:
        by_key.setdefault(tuple(partner[1][word] for word in shared), []).append(partner)
    taken = {path for path, _ in partners}
    images: dict[str, Partner] = {}
    for path, groups in config.image_files():
        name = image_name(groups, images_pattern)
        if path in taken:
            continue
        if name in images:
            raise DataError(
                f"{path.parent}: expected one image named {name}, found {images[name][0].name} and {path.name}. Rename "
                "one, or say which suffix images have: `images = "
                f'"{images_pattern.removesuffix("*") + path.suffix[1:]}"`.'
            )
        images[name] = (path, groups)
    if not images:
        raise DataError(
            f"{config.path}: expected images ({', '.join(PICTURES)}) at {config.base / images_pattern}, found none. "
            "Say where they are by `images = ` (and `root = `)."
        )
    used: set[tuple[str, ...]] = set()
    for name, (path, groups) in sorted(images.items()):
        key = tuple(groups[word] for word in shared)
        used.add(key)
        if key not in by_key:
            found.bare.add(name)
        yield name, path, by_key.get(key, [])
    for key in by_key.keys() - used:
        for path, _ in by_key[key]:
            found.remark(f"a {what} without an image", path.name)
    if len(found.bare) == len(images):
        raise DataError(
            f"{config.path}: expected a {what} for images such as {next(iter(images))} at {config.base / pattern}, "
            f"found none for any of {len(images)} images ({len(partners)} files fit that pattern). Mend the pattern."
        )
