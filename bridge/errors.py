"""Every error that Paintover can report: one tree, each with a wire code, plain words and a next step.

PaintoverError
├── ProtocolError            what arrived is not our language
│   ├── BadFrame             not a frame, or a damaged one
│   ├── TooLarge             a declared length is over its limit
│   ├── UnknownMessage       a frame of a type this side does not know
│   ├── BadMessage           a known type with wrong fields
│   └── BadPacket            no OSC message
├── LinkError                the two sides are not connected
│   ├── ServerNotRunning     nobody listens there
│   ├── ConnectionLost       the connection ended
│   ├── ServerSilent         connected, but nobody answers
│   ├── WrongToken           refused: token
│   ├── WrongProtocol        refused: protocol version
│   ├── TokenUnreadable      this machine's token file is not readable
│   ├── SenderGone           nobody sends the frames of a shot any more
│   └── PortInUse            somebody else listens there
├── RequestError             what was asked for cannot be done
│   ├── BadParameter (WrongType), Clamped, NoPreset, SourceReplaced, BadSize, BadPasses, BadMesh, MissingMesh,
│   └── MissingModel, BadModelFile, UnsupportedControl, UnknownJob, JobNotOver, QueueFull,
│       NothingToContinue
├── SceneError               what the Blender scene lacks
│   └── NoCamera, NoMesh, EmptyMesh, ZeroScale, OutsideCameras, LinkedData, NothingToRevert, RenderFailed,
│       NoGpu
├── ServerFailure            the server failed at a valid request
│   └── WorkerDied, OutOfMemory, DiskFull, NotStored, ServerStartFailed, SinkMissing
├── SetupError               the server's environment cannot be made
│   └── NoPython, PythonUnusable, NoSpace, NotOnline, SetupRunning, ServerRuns
└── Cancelled                the user stopped it
"""

from __future__ import annotations

import re


class PaintoverError(Exception):
    """Base of all. `text` and `hint` are format strings over the keyword details."""

    code = "error"
    text = "Something went wrong: {reason}."
    hint = "See the server's log for details."

    def __init__(self, message: str | None = None, *, hint: str | None = None, **details: object) -> None:
        self.message = message if message is not None else _fill(type(self).text, details)
        self.hint = hint if hint is not None else _fill(type(self).hint, details)
        self.details = details
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


def _fill(template: str, details: dict[str, object]) -> str:
    """Format `template`; a detail that was not given becomes a question mark, in whatever format it is asked for."""
    given = re.sub(r"\{(\w+)[^}]*\}", lambda found: found[0] if found[1] in details else "?", template)
    return given.format_map(details)


class ProtocolError(PaintoverError):
    code = "protocol"
    text = "The other side sent something that is not Paintover's protocol: {reason}."
    hint = "Check that host and port belong to a Paintover server."


class BadFrame(ProtocolError):
    code = "bad_frame"


class TooLarge(ProtocolError):
    code = "too_large"
    text = "{what} is {size:,} bytes; the limit is {limit:,}."
    hint = "Use smaller images, fewer views or a lighter mesh."


class UnknownMessage(ProtocolError):
    code = "unknown_message"
    text = "Unknown message type {name!r}."
    hint = "Use the same Paintover version on both sides."


class BadMessage(ProtocolError):
    code = "bad_message"
    text = "Message {name}: {reason}."
    hint = "Use the same Paintover version on both sides."


class BadPacket(ProtocolError):
    code = "bad_packet"
    text = "This is no OSC message: {reason}."
    hint = "Look at the program that sends it."


class LinkError(PaintoverError):
    code = "link"
    text = "The connection failed: {reason}."
    hint = "Check that the server runs, then connect again."


class ServerNotRunning(LinkError):
    code = "server_not_running"
    text = "No Paintover server answers at {host}:{port}."
    hint = "Start it with “Start Server” in the add-on's preferences, or run: paintover serve"


class ConnectionLost(LinkError):
    code = "connection_lost"
    text = "The connection to the server was lost."
    hint = "Connect again; jobs that had started go on, and finished results are kept on the server."


class ServerSilent(LinkError):
    code = "server_silent"
    text = "The server is connected but has not answered for {seconds:.0f} seconds."
    hint = "It may hang, or its machine may be overloaded. Connect again; if that does not help, restart the server."


class WrongToken(LinkError):
    code = "wrong_token"
    text = "The server refused the token."
    hint = "Copy the token that “paintover doctor” prints on the server's machine into the add-on's preferences."


class WrongProtocol(LinkError):
    code = "wrong_protocol"
    text = "The other side speaks protocol {theirs}, this side (Paintover {version}) protocol {ours}."
    hint = "Install the same Paintover version on both sides."


class TokenUnreadable(LinkError):
    code = "token_unreadable"
    text = "The token in {path} cannot be read: {reason}."
    hint = "Make the file readable for you, or delete it: the server makes a new one when it starts."


class PortInUse(LinkError):
    code = "port_in_use"
    text = "Port {port} on {host} is in use by another program."
    hint = "Stop that program, or choose another port with --port (and in the add-on's preferences)."


class SenderGone(LinkError):
    code = "sender_gone"
    text = "The Blender that sends the frames has gone."
    hint = "Resume the shot: it goes on where it was."


class RequestError(PaintoverError):
    code = "request"
    text = "The request cannot be done: {reason}."
    hint = "Change the request and try again."


class BadParameter(RequestError):
    code = "bad_parameter"
    text = "{name}: {reason}."
    hint = "Choose a value inside the parameter's range."


class WrongType(BadParameter):
    code = "wrong_type"
    hint = "Send a value of the parameter's own kind: a number, or text."


class Clamped(RequestError):
    """Not refused: the nearest value that is allowed was taken."""

    code = "clamped"
    text = "{name}: {given} is out of range; {used} is used."
    hint = "Choose a value inside the parameter's range."


class SourceReplaced(RequestError):
    code = "source_replaced"
    text = "Another program sends the live frames now."
    hint = "Turn Live off and on again to take over; or wait: it goes on here when that program leaves."


class NoPreset(RequestError):
    code = "no_preset"
    text = "Preset {number} is empty."
    hint = "Store one there first."


class BadSize(RequestError):
    code = "bad_size"
    text = "An image of {width} × {height} cannot be painted: {reason}."
    hint = "Use sides between {minimum} and {maximum} that are divisible by 8."


class BadPasses(RequestError):
    code = "bad_passes"
    text = "The {name} pass of view {view!r} is damaged: {reason}."
    hint = "Look for broken geometry (NaN coordinates, zero scale) near the camera, then render again."


class BadMesh(RequestError):
    code = "bad_mesh"
    text = "The mesh of {name!r} cannot be textured: {reason}."
    hint = "Repair the mesh (Mesh > Clean Up) and try again."


class MissingMesh(RequestError):
    code = "missing_mesh"
    text = "The server does not have {count} of the meshes that this job names."
    hint = "Run the job again: the meshes are sent anew."


class MissingModel(RequestError):
    code = "missing_model"
    text = "The model {name!r} is not installed."
    hint = "Run: paintover models list, then: paintover models fetch {name} (or: paintover models add PATH)"


class BadModelFile(RequestError):
    code = "bad_model_file"
    text = "The model file {name!r} cannot be used: {reason}."
    hint = "Fetch it again, or choose a complete .safetensors file or diffusers folder."


class UnsupportedControl(RequestError):
    code = "unsupported_control"
    text = "The model {model!r} has no ControlNet for {control}."
    hint = "Switch {control} off, or add one: paintover models add PATH --control {control}"


class UnknownJob(RequestError):
    code = "unknown_job"
    text = "The server knows no job {job!r}."
    hint = "It may have been cleared from the server's history: run it again."


class JobNotOver(RequestError):
    code = "job_not_over"
    text = "The job {job!r} is not over."
    hint = "Cancel it first."


class QueueFull(RequestError):
    code = "queue_full"
    text = "The server already has {limit} jobs waiting."
    hint = "Wait for some to finish, or cancel some."


class NothingToContinue(RequestError):
    code = "nothing_to_continue"
    text = "The shot cannot go on from place {place}: {reason}."
    hint = "Paint it from its first frame."


class SceneError(PaintoverError):
    code = "scene"
    text = "The scene cannot be painted: {reason}."
    hint = "Change the scene and try again."


class NoCamera(SceneError):
    code = "no_camera"
    text = "The scene has no camera."
    hint = "Add one with Add > Camera, or let Paintover place cameras: Cameras > Automatic."


class NoMesh(SceneError):
    code = "no_mesh"
    text = "No mesh object is selected."
    hint = "Select the objects that should be painted."


class EmptyMesh(SceneError):
    code = "empty_mesh"
    text = "{name!r} has no faces."
    hint = "Leave it out of the selection, or give it faces (modifiers included)."


class ZeroScale(SceneError):
    code = "zero_scale"
    text = "{name!r} has a scale of zero: none of its surface can be painted."
    hint = "Give it a scale other than zero on every axis (N panel > Item)."


class OutsideCameras(SceneError):
    code = "outside_cameras"
    text = "No camera sees {name!r}."
    hint = "Move a camera so that it sees the object, or choose Cameras > Automatic."


class LinkedData(SceneError):
    code = "linked_data"
    text = "{name!r} is linked from another file and cannot be changed here."
    hint = "Make it local first: Object > Relations > Make Local, or make a library override."


class NothingToRevert(SceneError):
    code = "nothing_to_revert"
    text = "None of the selected objects was painted by Paintover."
    hint = "Select a painted object."


class RenderFailed(SceneError):
    code = "render_failed"
    text = "Blender could not render the passes: {reason}."
    hint = "See Blender's console for the cause."


class NoGpu(SceneError):
    code = "no_gpu"
    text = "Blender cannot draw on the graphics card: {reason}."
    hint = "Passes of single pictures are rendered by Cycles instead. For live passes, install a graphics driver."


class ServerFailure(PaintoverError):
    code = "server_failure"
    text = "The server failed: {reason}."
    hint = "Try again; if it happens twice, report it with the server's log."


class WorkerDied(ServerFailure):
    code = "worker_died"
    text = "The painting process stopped unexpectedly ({reason})."
    hint = "The server has started a new one; run the job again with a smaller size if it repeats."


class OutOfMemory(ServerFailure):
    code = "out_of_memory"
    text = "The server ran out of memory: {reason}."
    hint = "Use a smaller size, fewer ControlNets or a smaller model."


class DiskFull(ServerFailure):
    code = "disk_full"
    text = "The server could not store {what}: the disk is full."
    hint = "Free some space in {folder}. Jobs go on, but a restart of the server would lose what is not stored."


class NotStored(ServerFailure):
    code = "not_stored"
    text = "The server could not store {what}: {reason}."
    hint = "Look at {folder}. Jobs go on, but a restart of the server would lose what is not stored."


class ServerStartFailed(ServerFailure):
    code = "server_start_failed"
    text = "The server could not be started: {reason}."
    hint = "Run “paintover doctor” in a terminal: it says what is missing."


class SinkMissing(ServerFailure):
    """A way out for frames whose runtime is not there. `next` is what to do about it."""

    code = "sink_missing"
    text = "The output “{name}” cannot be used: {reason}."
    hint = "{next}"


class SetupError(PaintoverError):
    code = "setup"
    text = "The server could not be set up: {reason}."
    hint = "Open the log to see the cause, then press the button again: it goes on where it stopped."


class NoPython(SetupError):
    code = "no_python"
    text = "No Python that the server can use was found. {reason}"
    hint = "Install Python 3.13, then press the button again."


class PythonUnusable(SetupError):
    code = "python_unusable"
    text = "{path} cannot be used: {reason}."
    hint = "Name another Python 3.11 to 3.14 in the add-on's preferences."


class NoSpace(SetupError):
    code = "no_space"
    text = "Setting up the server takes {needed:.1f} GB, and only {free:.1f} GB are free in {folder}."
    hint = "Free some space, then press the button again."


class NotOnline(SetupError):
    code = "not_online"
    text = "The server's packages could not be downloaded."
    hint = "Check the internet connection, then press the button again: it goes on where it stopped."


class SetupRunning(SetupError):
    code = "setup_running"
    text = "Another Blender is setting up the server."
    hint = "Wait for it to finish."


class ServerRuns(SetupError):
    code = "server_runs"
    text = "A Paintover server is running on port {port}: the environment cannot be changed under it."
    hint = (
        "Stop it where it was started (“Stop Server” in the other Blender, Ctrl-C in a terminal); one whose Blender is "
        "gone ends when its jobs are over. Then press the button again."
    )


class Cancelled(PaintoverError):
    code = "cancelled"
    text = "Cancelled."
    hint = ""


def _subclasses(base: type[PaintoverError]) -> list[type[PaintoverError]]:
    return [base] + [found for child in base.__subclasses__() for found in _subclasses(child)]


BY_CODE: dict[str, type[PaintoverError]] = {error.code: error for error in _subclasses(PaintoverError)}
"""Wire code -> class. Codes are unique (a test compares the counts)."""


def from_wire(code: str, message: str, hint: str) -> PaintoverError:
    """The error that the other side named. An unknown code keeps its words as a plain PaintoverError."""
    return BY_CODE.get(code, PaintoverError)(message, hint=hint)
