"""Demo cameras: street scenes that this package draws and serves over RTSP on loopback."""
