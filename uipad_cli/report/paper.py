"""What the UIP-AD paper prints for each category (its tables 1 to 3): image AUROC and AUPRO up to 30 %, in shares."""

from __future__ import annotations

from collections.abc import Mapping

_MVTEC_3D_AD = {
    "bagel": (98.8, 98.5), "cable_gland": (98.5, 99.3), "carrot": (96.5, 99.2), "cookie": (97.1, 97.5),
    "dowel": (98.7, 98.1), "foam": (90.1, 90.3), "peach": (98.5, 99.3), "potato": (90.3, 98.7), "rope": (99.2, 98.3),
    "tire": (97.3, 98.8),
}  # fmt: skip
_EYECANDIES = {
    "candy_cane": (85.2, 92.3), "chocolate_cookie": (98.7, 93.6), "chocolate_praline": (96.5, 95.5),
    "confetto": (100.0, 99.2), "gummy_bear": (95.6, 92.6), "hazelnut_truffle": (86.9, 76.3),
    "licorice_sandwich": (95.4, 97.2), "lollipop": (95.8, 93.5), "marshmallow": (99.8, 97.5),
    "peppermint_candy": (100.0, 98.8),
}  # fmt: skip
_REAL_IAD_D3 = {
    "audio_jack_socket": (100.0, 72.9), "common_mode_filter": (55.8, 61.3), "connector_housing_female": (100.0, 88.9),
    "crimp_st_cable_mount_box": (98.6, 71.3), "dc_power_connector": (92.9, 81.8), "ethernet_connector": (84.8, 92.8),
    "ferrite_bead": (98.9, 96.0), "fork_crimp_terminal": (82.8, 88.9), "fuse_holder": (90.3, 95.1),
    "headphone_jack_socket": (98.8, 92.5), "humidity_sensor": (91.7, 87.0), "knob_cap": (91.7, 82.4),
    "lattice_block_plug": (95.3, 82.1), "lego_pin_connector_plate": (86.8, 94.3), "lego_propeller": (100.0, 72.9),
    "limit_switch": (96.0, 92.1), "miniature_lifting_motor": (97.8, 58.2), "power_jack": (90.0, 48.7),
    "purple_clay_pot": (89.3, 92.3), "telephone_spring_switch": (88.8, 88.9),
}  # fmt: skip
_PRINTED = {
    name.replace("_", ""): value for table in (_MVTEC_3D_AD, _EYECANDIES, _REAL_IAD_D3) for name, value in table.items()
}


def printed(category: str) -> Mapping[str, float]:
    """The paper's figures by the names of `page.COLUMNS`; empty for a category that it does not print.

    Written as on disk or as in the tables: CandyCane, candy_cane and candy-cane are one.
    """
    key = "".join(letter for letter in category.lower() if letter.isalnum())
    if key not in _PRINTED:
        return {}
    image, area = _PRINTED[key]
    return {"image_auroc": image / 100, "aupro_30": area / 100}
