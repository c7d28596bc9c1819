"""The methods by name: a name on the command line → "module:Class", imported only when it is asked for."""

METHODS: dict[str, str] = {
    "uipad": "uipad_cli.methods.uipad:UIPADMethod",
    "patchcore": "uipad_cli.methods.patchcore:PatchCoreMethod",
    "inp_former": "uipad_cli.methods.inp_former:INPFormerMethod",
}
