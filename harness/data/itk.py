"""MetaImage, NRRD and DICOM through SimpleITK, with its LPS millimetres turned into RAS+ once, here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.data.volume import Volume
from harness.errors import UserError
from harness.grid import Grid

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813 - the name its own documentation uses

__all__ = ["read_dicom", "read_itk"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_EVEN_MM = 0.01  # slices of one series may lie this far from where an even distance puts them
_LONGEST_REASON = 200  # letters of an exception; a longer one is a story, of which the last line counts
_SAME_PLANE = 1e-3  # entries of directions and pixel spacings may differ by this much


def read_itk(path: Path) -> Volume:
    """Read one ``.mha``, ``.mhd``, ``.nrrd`` or ``.nhdr`` file; the errors are those of `harness.data.reading.read`."""
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _expect_three_axes(reader.GetDimension(), reader.GetSize(), path)
        image = reader.Execute()
    except RuntimeError as error:
        raise UserError(
            f"{path} cannot be read: {_reason(error)}. Copy it again, with every file it points to."
        ) from error
    facts: dict[str, Any] = {"format": "NRRD" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImage"}
    if facts["format"] == "NRRD":
        facts["space"] = (
            image.GetMetaData("NRRD_space") if image.HasMetaDataKey("NRRD_space") else "not stated (LPS assumed)"
        )
    return _volume(image, path, facts)


def read_dicom(folder: Path) -> Volume:
    """Read the one DICOM series of a folder, slices in the order of their positions.

    Raises
    ------
    UserError
        The folder holds no series or several, or its slices make no volume: one is missing or doubled, they differ in
        orientation or pixel spacing, or a tilted gantry shifted them.
    """
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageSeriesReader()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what ITK warns of is said below in one sentence
    series = reader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        listing = ": " + ", ".join(series[:5]) if series else ""
        raise UserError(
            f"{folder} holds {len(series)} DICOM series{listing}; exactly one makes a volume. "
            f"{'Put each series into a folder of its own.' if series else 'Check the path.'}"
        )
    names = reader.GetGDCMSeriesFileNames(str(folder), series[0])
    _refuse_uneven_slices(names, folder)
    reader.SetFileNames(names)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise UserError(f"The DICOM series in {folder} cannot be read: {_reason(error)}. Export it again.") from error
    return _volume(image, folder, {"format": "DICOM", "slices": len(names), "series": series[0]})


def _refuse_uneven_slices(names: tuple[str, ...], folder: Path) -> None:
    """Refuse slices that no one affine describes: turned, scaled or shifted against each other, missing or doubled."""
    import SimpleITK as sitk  # noqa: N813

    origins, planes = [], []
    for name in names:
        header = sitk.ImageFileReader()
        header.SetFileName(name)
        header.ReadImageInformation()
        if header.GetDimension() == 3 and header.GetSize()[2] > 1:
            return  # one enhanced multi-frame file carries its own geometry
        origins.append(header.GetOrigin())
        planes.append((*header.GetDirection(), *header.GetSpacing()[:2], *header.GetSize()[:2]))
    apart = np.abs(np.array(planes) - planes[0]).max(axis=1)
    if apart.max() > _SAME_PLANE:
        other = Path(names[int(np.argmax(apart))]).name
        raise UserError(
            f"{other} in {folder} has another orientation, pixel spacing or size than {Path(names[0]).name}: these are "
            "slices of several scans under one series number. Put each scan into a folder of its own."
        )
    direction = np.array(planes[0][:9]).reshape(3, 3)
    along = (np.array(origins) - origins[0]) @ direction  # of each slice, in the axes of the image
    pixel = planes[0][9:11]
    sideways = np.abs(along[:, :2])
    if (sideways > 0.5 * np.array(pixel)).any():
        raise UserError(
            f"The slices in {folder} are shifted against each other by up to {sideways.max():.2f} mm within their "
            "plane, as a tilted gantry leaves them; no affine of a volume can say that. Correct the tilt while "
            "converting the series to NIfTI (dcm2niix does)."
        )
    steps = np.diff(along[:, 2])
    if len(steps) and (np.abs(steps).min() < _EVEN_MM or np.abs(steps - np.median(steps)).max() > _EVEN_MM):
        worst = int(np.argmax(np.abs(steps - np.median(steps))))
        raise UserError(
            f"The slices in {folder} are {abs(np.median(steps)):.3f} mm apart, but {Path(names[worst]).name} and "
            f"{Path(names[worst + 1]).name} are {abs(steps[worst]):.3f} mm apart: a slice is missing or doubled, so "
            "no one spacing fits. Export the series again."
        )


def _volume(image: sitk.Image, path: Path, facts: dict[str, Any]) -> Volume:
    import SimpleITK as sitk  # noqa: N813

    array: NDArray[Any] = sitk.GetArrayFromImage(image)  # (z, y, x), components last, further axes first
    if array.dtype.kind not in "iuf":
        raise UserError(f"{path} stores {image.GetPixelIDTypeAsString()}; only real numbers are scans or labels.")
    space = image.GetDimension()
    components = image.GetNumberOfComponentsPerPixel() > 1
    data = array.transpose((*range(space - 1, -1, -1), *([space] if components else [])))
    while data.ndim > 3 and 1 in data.shape[3:]:
        data = data.squeeze(axis=3 + data.shape[3:].index(1))
    direction = np.array(image.GetDirection()).reshape(space, space)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    return Volume(
        data=data,
        grid=Grid((data.shape[0], data.shape[1], data.shape[2]), tuple(map(tuple, _LPS_TO_RAS @ affine))),
        path=path,
        dtype=array.dtype,
        header={**facts, "affine_from": "direction"},
    )


def _expect_three_axes(dimension: int, size: tuple[int, ...], path: Path) -> None:
    if dimension not in (3, 4):
        raise UserError(f"{path} has {dimension} axes of size {size}; three of space and at most one more can be read.")


def _reason(error: RuntimeError) -> str:
    """Take what went wrong out of an ITK exception: what follows the name of the class, or its last line in words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = re.split(r"ITK ERROR: \w+\(0x\w+\): ", " ".join(lines))[-1]
    if len(said) > _LONGEST_REASON or len(lines) == 1 or "ITK ERROR" not in str(error):
        said = next((line for line in reversed(lines) if re.search("[a-z]", line)), "no reason given")
    return said.rstrip(".")
