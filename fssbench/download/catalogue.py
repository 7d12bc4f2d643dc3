"""Where the data sets are published, and what their archives weigh and hash to."""

from __future__ import annotations

from dataclasses import dataclass

from fssbench.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Archive:
    """One published file. Size and hash are None where nothing stable is published."""

    part: str  # what --parts calls it
    url: str | None
    size: int | None = None  # bytes
    digest: str | None = None  # "md5:..." or "sha256:..."
    default: bool = True  # fetched without being asked for

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return (self.url or f"{self.part}.zip").rpartition("/")[2]


@dataclass(frozen=True)
class Source:
    """A data set's archives, and what its reader should know."""

    archives: tuple[Archive, ...]
    layout: str  # how the folder must look afterwards
    note: str = ""  # what cannot be downloaded, and where to get it
    folder: str = ""  # below --to, that archives are unpacked into


_COCO = "http://images.cocodataset.org"

SOURCES: dict[str, Source] = {
    "pascal5i": Source(
        archives=(
            Archive(
                "voc2012",
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                1_999_639_040,
                "md5:6cd6e144f989b92b3379bac3b3de84fd",
            ),
            Archive(
                "sbd",
                "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
                digest="md5:82b4d87ceb2ed10f6038a1cba92111cb",
                default=False,
            ),
        ),
        layout="VOCdevkit/VOC2012 with JPEGImages, SegmentationClass and ImageSets/Segmentation",
        note="For the lists trainaug, train and no-novel the masks of SBD are needed too: `--parts sbd` fetches its "
        ".mat files; label maps made from them (SegmentationClassAug) have no stable direct address and belong in "
        "VOCdevkit/VOC2012/SegmentationClassAug/<image>.png.",
    ),
    "coco20i": Source(
        archives=(
            Archive("val2014", f"{_COCO}/zips/val2014.zip", 6_645_013_297, "md5:a3d79f5ed8d289b7a7554ce06a5782b3"),
            Archive(
                "annotations2014",
                f"{_COCO}/annotations/annotations_trainval2014.zip",
                252_872_794,
                "md5:0a379cfc70b0e71301e0f377548639bd",
            ),
            Archive(
                "train2014",
                f"{_COCO}/zips/train2014.zip",
                13_510_573_713,
                "md5:0da8c0bd3d6becc4dcb32757491aca88",
                default=False,
            ),
            Archive(
                "val2017",
                f"{_COCO}/zips/val2017.zip",
                815_585_330,
                "md5:442b8da7639aecaf257c1dceb8ba8c80",
                default=False,
            ),
            Archive(
                "train2017",
                f"{_COCO}/zips/train2017.zip",
                19_336_861_798,
                "md5:cced6f7f71b7629ddf16f17bbcfab6b2",
                default=False,
            ),
            Archive(
                "annotations2017",
                f"{_COCO}/annotations/annotations_trainval2017.zip",
                252_907_541,
                "md5:f4bbac642086de4f52a3fdda2de5fa2c",
                default=False,
            ),
        ),
        layout="coco/annotations/instances_val2014.json and coco/val2014/*.jpg (likewise for the other lists)",
        note="Training images: `--parts train2014`. COCO 2017: `--parts val2017,annotations2017`.",
        folder="coco",
    ),
    "fss1000": Source(
        archives=(Archive("fss1000", None),),
        layout="fss1000/<class>/1.jpg to 10.jpg and 1.png to 10.png, 1000 classes",
        note="Its authors publish it by a Google Drive link that has no stable direct address: see "
        "https://github.com/HKUSTCV/FSS-1000. Unpack it by hand, or give a direct address of a copy by --url.",
        folder="fss1000",
    ),
}

_IMAGES_2017 = "The photographs are COCO 2017's, train and val: `fssbench download coco20i --parts val2017,train2017`."

SOURCES["lvis92i"] = Source(
    archives=(Archive("lvis_v1_val", "https://dl.fbaipublicfiles.com/LVIS/lvis_v1_val.json.zip"),),
    layout="LVIS/lvis_v1_val.json, and the photographs in coco/val2017 and coco/train2017, or in LVIS/coco",
    note=_IMAGES_2017,
    folder="LVIS",
)
SOURCES["paco_part"] = Source(
    archives=(
        Archive(
            "paco_lvis_v1",
            "https://dl.fbaipublicfiles.com/paco/annotations/paco_lvis_v1.zip",
            digest="sha256:02ac4edb22c251e07853e6231d69aec3fad0a180f03de2f8c880650322debc80",
        ),
    ),
    layout="PACO-Part/paco/paco_lvis_v1_val.json and ..._train.json, and the photographs in coco/val2017 and "
    "coco/train2017, or in PACO-Part/coco",
    note=_IMAGES_2017,
    folder="PACO-Part/paco",
)

for _name, _layout, _where in (
    ("deepglobe", "Deepglobe/<1..6>/test/origin/*.jpg and .../groundtruth/*.png (PATNet's tiles)",
     "DeepGlobe 2018 is published on Kaggle behind a login, its tiles by links in https://github.com/slei109/PATNet"),
    ("isic2018", "ISIC/ISIC2018_Task1-2_Training_Input/*.jpg and ISIC/ISIC2018_Task1_Training_GroundTruth/*.png",
     "ISIC 2018 task 1 is published behind a login at https://challenge.isic-archive.com/data"),
    ("chestxray", "LungSegmentation/CXR_png/*.png and LungSegmentation/masks/*_mask.png",
     "The chest X-rays are published on Kaggle behind a login (nikhilpandey360/chest-xray-masks-and-labels)"),
    ("isaid5i", "remote_sensing/iSAID_patches/{train,val}/{images,semantic_png}/*.png (GF-SAM's patches)",
     "The patches of iSAID are published by a Google Drive link in https://github.com/ANDYZAQ/GF-SAM"),
    ("pascal_part", "Pascal-Part/VOCdevkit/VOC2010 with JPEGImages, all_obj_part_to_image.json and "
     "Annotations_Part_json_merged_part_classes",
     "PASCAL VOC 2010's photographs and Matcher's annotations of parts (pascal.zip) are published by links in "
     "https://github.com/aim-uofa/Matcher"),
):  # fmt: skip
    SOURCES[_name] = Source((Archive(_name, None),), _layout, f"{_where}: fetch and unpack them by hand.")


def find_source(name: str) -> Source:
    """A data set's source. Raises `UsageError` for a name that cannot be downloaded."""
    if name in SOURCES:
        return SOURCES[name]
    if name == "shapes5i":
        raise UsageError("shapes5i is rendered by fssbench itself: there is nothing to download.")
    raise UsageError(unknown_name("data set to download", name, SOURCES))


def choose(name: str, parts: list[str] | None) -> list[Archive]:
    """The archives of a data set that were asked for, or its default ones. Raises `UsageError`."""
    archives = {archive.part: archive for archive in find_source(name).archives}
    if not parts:
        return [archive for archive in archives.values() if archive.default]
    for part in parts:
        if part not in archives:
            raise UsageError(unknown_name(f"part of {name}", part, archives))
    return [archives[part] for part in dict.fromkeys(parts)]


def addressed(name: str, archive: Archive, mirror: str | None) -> str:
    """Where to fetch an archive from: a mirror's own address, or the file under a mirror that ends in "/"."""
    address = f"{mirror}{archive.file_name}" if mirror and mirror.endswith("/") else mirror or archive.url
    if address is None:
        source = find_source(name)
        raise UsageError(f"{name} cannot be fetched by itself. {source.note} Expected in the end: {source.layout}.")
    if not address.startswith(("http://", "https://")):
        raise UsageError(f"--url: expected an address that starts with http:// or https://, found {address!r}.")
    return address
