"""Images from memory: one sample each, in the order given, pixels only when asked for."""

import io
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from bottleneck_probe.errors import InputError
from bottleneck_probe.images import exclusive
from bottleneck_probe.images.color import BadImage
from bottleneck_probe.images.find import find
from bottleneck_probe.images.payload import payload, to_image
from PIL import ContainerIO, Image


def first_pixel(sample: object) -> tuple:
    return to_image(payload(sample.source)).getpixel((0, 0))


def grey(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, dtype=np.uint8)


@pytest.mark.parametrize(
    "images",
    [
        [grey(i) for i in range(12)],
        np.stack([grey(i) for i in range(12)]),
        [Image.fromarray(grey(i)) for i in range(12)],
        [b"P6 1 1 255 " + bytes([i] * 3) for i in range(12)],
    ],
    ids=["arrays", "one array", "pil", "bytes"],
)
def test_order_of_bytes_is_order_of_input(images: object):
    found = find(images, labels=[f"c{i}" for i in range(11)] + [None])
    assert [s.path for s in found.samples] == [f"{i:02d}" for i in range(12)]
    assert [first_pixel(s)[0] for s in found.samples] == list(range(12))
    assert [s.label for s in found.samples][9:] == ["c9", "c10", None]
    assert (found.root, found.order) == ("", list(range(12)))
    assert list(found.entries) == list(range(12))


@pytest.mark.parametrize("image", [grey(3), Image.fromarray(grey(3)), b"P6 1 1 255 \3\3\3"])
def test_one_image_alone(image: object):
    (sample,) = find(image).samples
    assert (sample.path, sample.label, first_pixel(sample)) == ("0", None, (3, 3, 3))


def test_no_label_has_many_spellings():
    pd = pytest.importorskip("pandas")
    found = find([grey(0)] * 6, labels=[None, float("nan"), "", pd.NA, 0, "NA"])
    assert [s.label for s in found.samples] == [None, None, None, None, "0", "NA"]


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([grey(0), "a.jpg"], "item 1 of the list is a str"),
        ([{}], "item 0 of the list is a dict"),
        (np.zeros((0, 4, 4, 3), dtype=np.uint8), "0 images"),
        (5, "cannot be read from a int"),
        (iter([grey(0)]), "cannot be read from a list_iterator"),
    ],
)
def test_what_is_no_list_of_images(images: object, reason: str):
    with pytest.raises(InputError, match=reason):
        find(images)


def test_labels_of_another_length():
    with pytest.raises(InputError, match="1 labels for 2 images"):
        find([grey(0), grey(1)], labels=["x"])
    with pytest.raises(InputError, match="no paths"):
        find([grey(0)], labels="labels.csv")


class Set:
    """What a data set must have, and a record of what it was asked for."""

    def __init__(self, items: list, **attributes: object) -> None:
        self.items, self.asked = items, list[int]()
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> object:
        self.asked.append(place)
        return self.items[place]


def test_a_data_set_with_targets_is_not_read():
    items = [(grey(i), i % 2) for i in range(5)]
    dataset = Set(items, targets=[0, 1, 0, 1, 0], classes=["ants", "bees"])
    found = find(dataset)
    assert [s.label for s in found.samples] == ["ants", "bees", "ants", "bees", "ants"]
    assert dataset.asked == [0]  # one look at what an item is
    assert first_pixel(found.samples[3]) == (3, 3, 3)
    assert dataset.asked == [0, 3]


def test_a_data_set_without_a_list_of_targets_is_read_once_and_it_is_told():
    dataset = Set([(grey(i), i) for i in range(3)])
    found = find(dataset)
    assert [s.label for s in found.samples] == ["0", "1", "2"]
    assert "read once for its targets" in found.notes[0]


def test_a_target_transform_counts():
    """`targets` holds what the transform has not seen yet."""
    dataset = Set([(grey(0), "spider")], targets=[0], target_transform=str)
    assert find(dataset).samples[0].label == "spider"


def test_images_without_targets_and_labels_given():
    assert find(Set([grey(0)])).samples[0].label is None
    assert find(Set([(grey(0), 1)]), labels=["x"]).samples[0].label == "x"


def test_faults_of_a_data_set_come_when_pixels_are_asked_for():
    dataset = Set([(grey(0), 0), ("not read yet", 0)], targets=[0, 0])
    dataset.items[1] = ({}, 0)
    with pytest.raises(BadImage, match="item 1 of the data set is a dict"):
        payload(find(dataset).samples[1].source)
    dataset.items[1] = None
    found = find(dataset)
    dataset.items.pop()
    with pytest.raises(BadImage, match="IndexError"):
        payload(found.samples[1].source)


def test_targets_that_are_no_class():
    with pytest.raises(InputError, match="target of item 0"):
        find(Set([(grey(0), {"boxes": []})]))


def test_torch_data_sets(tmp_path: object):
    torch = pytest.importorskip("torch")
    datasets = pytest.importorskip("torchvision.datasets")
    for label in ("ants", "bees"):
        (tmp_path / label).mkdir()
        for i in range(2):
            Image.fromarray(grey(10 * i + len(label))).save(tmp_path / label / f"{i}.png")
    folder = datasets.ImageFolder(tmp_path)
    part = torch.utils.data.Subset(folder, [3, 0])
    found = find(part)
    assert [s.label for s in found.samples] == ["bees", "ants"]
    assert [first_pixel(s)[0] for s in found.samples] == [14, 4]
    pixels = torch.arange(2, dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 4, 6)
    tensors = torch.utils.data.TensorDataset(pixels, torch.tensor([5, 6]))
    found = find(tensors)
    assert [s.label for s in found.samples] == ["5", "6"]
    assert first_pixel(found.samples[1]) == (1, 1, 1)


HEADER = b"P6 8 8 255 "


class OneFile(Set):
    """Reads every item through one open file, as data sets of packed records do."""

    def __init__(self, file: io.FileIO, count: int, form: str) -> None:
        super().__init__([None] * count)
        self.file, self.form = file, form
        self.buffer = np.zeros((8, 8, 3), dtype=np.uint8)
        self.inside = 0

    def __getitem__(self, place: int) -> object:
        self.inside += 1
        try:
            start = place * len(HEADER + bytes(192))
            if self.form == "lazy":  # the file is read when the pixels are
                return Image.open(ContainerIO.ContainerIO(self.file, start, 192 + len(HEADER)))
            self.file.seek(start)
            time.sleep(0.001)  # lets another thread seek, if one may
            data = self.file.read(192 + len(HEADER))
            if self.form == "bytes":
                return bytearray(data)
            pixels = np.frombuffer(data, dtype=np.uint8)[len(HEADER) :].reshape(8, 8, 3)
            if self.form == "pil":
                return Image.fromarray(pixels)
            self.buffer[:] = pixels
            return self.buffer
        finally:
            self.inside -= 1
            assert self.inside == 0, "two threads at once"


@pytest.mark.parametrize("form", ["view", "bytes", "pil", "lazy"])
@pytest.mark.parametrize("wrap", ["plain", "subsets"])
def test_a_data_set_is_asked_by_one_thread_at_a_time(tmp_path: object, form: str, wrap: str):
    """Two threads that seek and read in one file give one image the other's pixels."""
    count = 40
    path = tmp_path / "packed"
    path.write_bytes(b"".join(HEADER + bytes([i]) * 192 for i in range(count)))
    with open(path, "rb", buffering=0) as file:
        dataset = OneFile(file, count, form)
        parts = [dataset]
        if wrap == "subsets":
            parts = [Part(dataset, range(20)), Part(dataset, range(20, count))]
        samples = [sample for part in parts for sample in find(part).samples]
        with ThreadPoolExecutor(8) as pool:
            contents = list(pool.map(lambda s: payload(s.source), samples))
    got = [to_image(content).getpixel((3, 3))[0] for content in contents]
    assert got == list(range(count))


class Part(Set):
    """As torch's `Subset`."""

    def __init__(self, dataset: object, indices: range) -> None:
        super().__init__(list(indices), dataset=dataset, indices=indices)

    def __getitem__(self, place: int) -> object:
        return self.dataset[self.indices[place]]


def test_a_file_that_a_data_set_names_is_read_outside_of_its_lock(tmp_path: object):
    """A slow disk must not make threads wait for each other where nothing is shared."""
    (tmp_path / "a.jpg").write_bytes(b"abc")
    assert find(Set([tmp_path / "a.jpg"])).samples[0].source() == tmp_path / "a.jpg"


def noise() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_one_lazy_image_many_times(tmp_path: object):
    """`Image.open` reads the file at the first use; two threads at once break that."""
    expected = np.asarray(noise())
    noise().save(tmp_path / "a.png")
    for _ in range(3):
        image = Image.open(tmp_path / "a.png")
        samples = find([image] * 30).samples
        with ThreadPoolExecutor(8) as pool:
            contents = list(pool.map(lambda s: payload(s.source), samples))
        assert all(np.array_equal(content, expected) for content in contents)


def test_one_image_is_used_by_one_thread_at_a_time():
    """Reading EXIF and pixels writes into the image object, loaded or not."""

    class Alone(Image.Image):
        inside = 0

        def load(self) -> object:
            self.inside += 1
            time.sleep(0.002)
            assert self.inside == 1, "two threads at once"
            self.inside -= 1
            return super().load()

    image = Image.fromarray(grey(5))
    image.__class__ = Alone
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(payload, [image] * 16))
    assert all((content == 5).all() for content in contents)


def test_several_lazy_images_of_one_open_file(tmp_path: object):
    file = io.BytesIO()
    noise().save(file, "PNG")
    for _ in range(3):
        samples = find([Image.open(file) for _ in range(16)]).samples
        with ThreadPoolExecutor(8) as pool:
            contents = list(pool.map(lambda s: payload(s.source), samples))
        assert all(np.array_equal(content, np.asarray(noise())) for content in contents)


def test_nothing_of_a_lock_stays():
    find(Set([(grey(0), 1)]))
    payload(Image.fromarray(grey(0)))
    assert exclusive._locks == {}


def test_an_array_of_objects_is_a_list():
    items = np.empty(2, dtype=object)
    items[:] = [b"P6 1 1 255 \1\1\1", b"P6 1 1 255 \2\2\2"]
    assert [first_pixel(s)[0] for s in find(items).samples] == [1, 2]


def test_float_tensors_are_refused_at_the_door():
    torch = pytest.importorskip("torch")
    image = torch.zeros(3, 4, 6)
    for images in ([image], Set([(image, 0)])):
        with pytest.raises(InputError, match="already normalised"):
            find(images)
    assert find([image.to(torch.uint8)]).samples[0].path == "0"
