"""A real RTSP server for tests: GStreamer's, run by the system's Python (it has the bindings), never imported.

    /usr/bin/python3 rtsp_server.py h264|jpeg [port]

Serves a moving test picture, 320x240 at 20 Hz, at rtsp://127.0.0.1:<port>/camera and prints the port. It ends when
its standard input is closed.
"""

import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

SOURCE = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=20/1,format=I420"
PIPELINES = {
    "h264": f"( {SOURCE} ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 threads=1"
    " ! rtph264pay name=pay0 pt=96 )",
    "jpeg": f"( {SOURCE} ! jpegenc ! rtpjpegpay name=pay0 pt=26 )",
}


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[2] if len(sys.argv) > 2 else "0")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINES[sys.argv[1]])
    factory.set_shared(True)
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
