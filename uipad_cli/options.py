"""Options that several commands share, and those of `prepare`, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16; auto scores in fp32.")]
OwnDevice = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")]  # over the files'
OwnPrecision = Annotated[str | None, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="key=value, dotted, over every file; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, and nothing else there.")]
Engine = Annotated[
    Literal["torch", "openvino", "onnx"],
    typer.Option("--engine", help="What runs MODEL: a run by torch, an export by openvino or onnx."),
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile first: slow to start, then faster.")]
OnError = Annotated[
    Literal["skip", "stop"],
    typer.Option("--on-error", help="A pair that cannot be read: skip it with a line that says why, or stop there."),
]
Ply = Annotated[bool, typer.Option("--ply", help="Also write the part's points, coloured, with their scores.")]
Resume = Annotated[bool, typer.Option("--resume", hidden=True, help="Of older scripts: it goes on by itself now.")]
Missing = Annotated[Literal["rgb", "depth"] | None, typer.Option(help="Judge without this file of a pair.")]
Categories = Annotated[list[str] | None, typer.Option("--category", help="Only this category; repeatable.")]
Framed = Annotated[
    Literal["crop", "full", "tile"] | None,
    typer.Option("--framing", help="crop: the paper's 77 % (default); full: all of it; tile: all of it, closer."),
]

RgbOrFolder = Annotated[
    Path, typer.Argument(metavar="RGB|FOLDER", help="Colour image, or folder of pairs; or the file there is.")
]
Source = Annotated[Path, typer.Argument(help="Folder of the raw data set, or a table of pairs (.csv, .jsonl).")]
Destination = Annotated[Path, typer.Argument(help="Folder for the prepared copy; never the source itself.")]
Dataset = Annotated[str, typer.Option(help="Format of SRC: auto, or a name such as mvtec3d.")]
Check = Annotated[bool, typer.Option("--check", help="Also write DST/health.html: what is wrong with the data.")]
Workers = Annotated[int, typer.Option(min=0, help="Parallel processes; 0 takes every core.")]
BackgroundPlane = Annotated[str, typer.Option("--plane", help="Background plane: border, open3d, or none.")]
Unit = Annotated[str, typer.Option(help="One count or 1.0: auto, m, mm, um, 1/5000, metres, kinect, sun.")]
Sentinel = Annotated[str, typer.Option("--missing", help="Missing pixels: auto, nan, or numbers such as 0,65535.")]
Camera = Annotated[str | None, typer.Option("--intrinsics", help="Depth camera: fx,fy,cx,cy, or its json, yaml, xml.")]
Axis = Annotated[
    Literal["auto", "away", "toward", "up"],
    typer.Option(help="Where z points: away from the sensor; toward it (OpenGL); up (height maps)."),
]
Pitch = Annotated[float | None, typer.Option(min=1e-9, help="Metres from pixel to pixel of a height map.")]
Light = Annotated[
    str | None, typer.Option(help="Which colour image, where there are several (0 to 5, ps), or normals.")
]
Longest = Annotated[int | None, typer.Option(min=64, help="Scale pairs down to so many pixels on the longer side.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="A line for every pair.")]
