"""What the bytes of an image or a clip are, by how they begin."""

IMAGES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "ppm", "jp2", "jxl"})
CLIPS = frozenset({"mp4", "webm", "mkv", "avi", "mov", "m4v", "mpg", "mpeg", "flv", "ogv", "3gp"})
UNKNOWN = "bin"
_STARTS = {
    b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png", b"GIF87a": "gif", b"GIF89a": "gif", b"BM": "bmp",
    b"II*\0": "tiff", b"MM\0*": "tiff", b"FLV\x01": "flv", b"OggS": "ogv", b"\0\0\x01\xba": "mpg",
    b"\0\0\x01\xb3": "mpg", b"\0\0\0\x0cjP  ": "jp2", b"\0\0\0\x0cJXL ": "jxl", b"\xff\x0a": "jxl",
    b"P6": "ppm", b"P5": "ppm",
}  # fmt: skip
_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"qt  ": "mov"}


def media_suffix(data: bytes) -> str:
    """The ending of a file of these bytes, such as `"jpg"` or `"mp4"`.

    Args:
        data: The file, or its first 64 bytes.

    Returns:
        The ending without its dot, `"bin"` where the bytes begin like nothing that is known.

    Example:
        >>> media_suffix(b"RIFF....WEBPVP8 ")
        'webp'
    """
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "3gp" if data[8:11] == b"3gp" else "mp4")
    if data[:4] == b"RIFF":
        return {b"WEBP": "webp", b"AVI ": "avi"}.get(data[8:12], UNKNOWN)
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return "webm" if b"webm" in data[:64] else "mkv"
    return next((suffix for start, suffix in _STARTS.items() if data.startswith(start)), UNKNOWN)
