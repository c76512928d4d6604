"""The demo cameras: streets drawn by the project itself, served over real RTSP on loopback."""
