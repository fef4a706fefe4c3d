"""One message off the receiver's socket, whatever number of frames its sender made it of.

libzmq hands out whole messages only, limits the size of a frame and not their number, and gives nothing of another peer
before a message has been read to its end. An empty frame is some 35 bytes on the wire: a million of them fit below any
limit of bytes, and made into objects of Python all at once they are hundreds of megabytes. So the first few are kept,
which is more than any honest message has; the receiver looks at them, bars who sent more and cuts its connections; and
then the rest is read and dropped, one at a time. How much that can be is bounded by what one vehicle may have
unfinished (`connections`), and nothing is added to it once the connections are cut.
"""

from __future__ import annotations

import zmq

#: A routing id, a header and a payload are three. What has more, up to here, is answered as malformed.
MOST_FRAMES = 16


def first_frames(socket: zmq.Socket[bytes]) -> list[zmq.Frame]:
    """The first frames of the next message, MOST_FRAMES at most; `more` of the last one says whether others follow."""
    frames = [socket.recv(copy=False)]
    while frames[-1].more and len(frames) < MOST_FRAMES:
        frames.append(socket.recv(copy=False))
    return frames


def drop_rest(socket: zmq.Socket[bytes], last: zmq.Frame) -> int:
    """Read the message whose frame `last` was to its end, and keep nothing of it; how many frames that were."""
    dropped = 0
    while last.more:  # of the frame: asking the socket costs half as much again
        last = socket.recv(copy=False)
        dropped += 1
    return dropped
