import os

import pytest
from bottleneck_probe.errors import InputError
from bottleneck_probe.remote import urls
from hypothesis import given
from hypothesis import strategies as st

SIGNED = [
    "https://me:hunter22@host/a.jpg",
    "https://bucket.s3.amazonaws.com/a.jpg?X-Amz-Credential=hunter22&X-Amz-Signature=hunter22",
    "https://storage.googleapis.com/b/a.jpg?GoogleAccessId=hunter22&Signature=hunter22&Expires=123456",
    "https://acc.blob.core.windows.net/c/a.jpg?sv=2022&se=2030&sp=r&sig=hunter22",
    "https://d.cloudfront.net/a.jpg?Policy=hunter22&Signature=x&Key-Pair-Id=hunter22",
    "https://host/a.jpg?token=hunter22",
    "https://host/a.jpg?access_token=hunter22#hunter22",
    "https://host/a.jpg?api_key=hunter22",
    "https://host/a.jpg?apikey=hunter22&password=hunter22",
    "s3://hunter22:hunter22@bucket/a.jpg",
]


@pytest.mark.parametrize("url", SIGNED)
def test_nothing_secret_is_kept_or_shown(url):
    assert "hunter22" not in urls.stored(url)
    assert "hunter22" not in urls.shown(url)
    assert urls.stored(url).endswith("/a.jpg")
    said = f"403, message='Forbidden', url={url!r} (hunter22)"
    assert "hunter22" not in urls.scrubbed(said, url)
    assert "403" in urls.scrubbed(said, url)


@pytest.mark.parametrize(
    "url",
    [
        "https://host/img?id=5",
        "https://host/a.jpg?width=80&height=60",
        "https://host/a.jpg?se=1&page=2",
        "s3://bucket/what?.jpg",
        "s3://bucket/a#b?sig=1.jpg",
        "memory://photos/1.jpg",
    ],
)
def test_what_names_an_image_is_kept(url):
    assert urls.stored(url) == url


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_can_be_asked(text):
    for each in (text, f"https://{text}", f"s3://{text}"):
        assert urls.stored(urls.stored(each)) == urls.stored(each)
        urls.parent(each)
        urls.scrubbed(each, each)


def test_parents_and_what_follows():
    assert urls.common_parent(["s3://b/x/1.tar", "s3://b/x/y/2.tar"]) == "s3://b/x"
    assert urls.common_parent(["s3://b/1.tar", "s3://c/1.tar"]) is None
    assert urls.relative_to("https://u:p@h/x/1.tar?sig=abc", "https://h/x") == "1.tar"


def test_file_urls_are_paths(tmp_path):
    assert urls.as_path((tmp_path / "a b#c.jpg").as_uri()) == str(tmp_path / "a b#c.jpg")
    assert urls.as_path(f"file://localhost{tmp_path}") == str(tmp_path) or os.name == "nt"
    with pytest.raises(InputError, match="of the computer nas"):
        urls.as_path("file://nas/photos")
    with pytest.raises(InputError, match=r"the computer %SCSS\["):
        urls.as_path("file://%SCSS[")
    odd = tmp_path / "[1].jpg"
    assert urls.as_path(f"file://{odd.as_posix()}") == str(odd) or os.name == "nt"
