"""Errors over values that nobody can ask for as texts of the interface, by their codes; a part of `error_texts`."""

from __future__ import annotations

from pages.widgets.texts import N_, Texts

BY_CODE: dict[str, Texts] = {
    "bad_amount": Texts(
        N_("{what}: a whole number from {least} to {most}"),
        N_("{value}"),
        N_("Change that number."),
    ),
    "bad_choice": Texts(
        N_("{what}: one of {choices}"),
        N_("{value}"),
        N_("Choose one of them."),
    ),
    "bad_number": Texts(
        N_("{what}: a finite number above 0"),
        N_("{value}"),
        N_("Change that number."),
    ),
    "bad_type": Texts(
        N_("a request with a {wanted} in it"),
        N_("{found}"),
        N_("Ask again from the page's own inputs."),
    ),
    "bad_array": Texts(
        N_("{what}: an array of numbers ({wanted}), none of its axes empty"),
        N_("{found}"),
        N_("Choose other values."),
    ),
    "bad_region": Texts(
        N_("a region within 0 to {length}"),
        N_("{region}"),
        N_("Choose a region inside."),
    ),
    "no_such_device": Texts(
        N_("a device that torch can compute on here, such as cpu, cuda or cuda:0"),
        N_("{device}"),
        N_("Choose cpu, or leave the device out."),
    ),
}
