import { expect, test } from "vitest";
import type { CameraDetail } from "../src/hub/model";
import { difference, flat, inForce } from "../src/pages/settings";
import { camera } from "./cameras";

const SETTINGS = {
  fps: 5,
  jpeg_quality: 85,
  max_width: null,
  labels: {},
  masks: [[0, 0]],
  nvision: { service: "face-detection", confidence_threshold: 0.1 },
};
const DETAIL: CameraDetail = { ...camera("lobby"), settings: SETTINGS, errors: [] };
const NOW = { fps: 5, jpeg_quality: 85, max_width: null, confidence_threshold: 0.1 };

test("what a camera runs with is read from its settings", () => {
  expect(inForce(DETAIL)).toEqual(NOW);
  expect(inForce({ ...DETAIL, settings: { fps: 5 } })).toBeNull();
});

test("only what differs is asked for", () => {
  expect(difference(NOW, { ...NOW, fps: 2, max_width: 640 })).toEqual({ fps: 2, max_width: 640 });
  expect(difference({ ...NOW, max_width: 640 }, NOW)).toEqual({ max_width: null });
  expect(difference(NOW, NOW)).toEqual({});
});

test("settings are lines, those within others by their path", () => {
  expect(flat(SETTINGS)).toEqual([
    ["fps", "5"],
    ["jpeg_quality", "85"],
    ["max_width", "null"],
    ["masks", "[[0,0]]"],
    ["nvision.service", "face-detection"],
    ["nvision.confidence_threshold", "0.1"],
  ]);
});
