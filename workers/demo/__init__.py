"""Demo cameras: street scenes drawn by this package and served over RTSP on loopback."""
