"""Whether files say where left, front and head are, once: what weights with an orientation cannot do without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel
from nibabel.spatialimages import HeaderDataError

from harness.data.case import Case
from harness.data.nifti import is_nifti
from harness.errors import UserError

__all__ = ["placed"]

_SHOWN = 4


def placed(cases: Mapping[str, Case], *, allow: bool = False) -> tuple[str, ...]:
    """Make sure that the header of every image places its axes in the body, in one way.

    Parameters
    ----------
    cases : mapping of str to Case
        Cases whose files can be read. Formats other than NIfTI always hold a direction.
    allow : bool
        Take nibabel's answer where the header gives none or two: first the sform, then the qform, else LAS.

    Returns
    -------
    tuple of str
        The rule that was needed, if any, for the record.

    Raises
    ------
    UserError
        A header has neither form, or two that disagree on the direction of an axis, and ``allow`` is false.
    """
    doubts = {case: doubt for case, files in cases.items() for path in files.images if (doubt := _doubt(path))}
    if not doubts:
        return ()
    first = "; ".join(f"{case}: {doubt}" for case, doubt in list(doubts.items())[:_SHOWN])
    more = f" and {len(doubts) - _SHOWN} more" if len(doubts) > _SHOWN else ""
    if not allow:
        raise UserError(
            f"{len(doubts)} of {len(cases)} cases do not say where left, front and head are ({first}{more}), so the "
            "axes that the weights expect cannot be told. Correct the headers, or accept nibabel's reading with "
            "protocol.input.allow_unplaced=true; the record will state it."
        )
    return (f"orientation: taken as nibabel reads it in {len(doubts)} cases ({first}{more}), allowed",)


def _doubt(path: Path) -> str | None:
    if not path.is_file() or not is_nifti(path):
        return None
    header = nibabel.load(path).header
    try:
        forms = {"sform": header.get_sform(coded=True), "qform": header.get_qform(coded=True)}
    except HeaderDataError as error:
        return f"{path.name}: {error}"
    codes = {
        name: "".join(map(str, nibabel.aff2axcodes(form)))
        for name, (form, code) in forms.items()
        if form is not None and int(code)
    }
    if not codes:
        return f"{path.name} has neither a qform nor an sform"
    if len(set(codes.values())) > 1:
        return f"the axes of {path.name} are {codes['sform']} by its sform and {codes['qform']} by its qform"
    return None
