import { expect, test } from "vitest";
import type { CameraDetail } from "../src/api/types";
import { activeSettings, changedSettings, flattenSettings } from "../src/pages/camera/settings";
import { camera } from "./fixtures";

const SETTINGS = {
  fps: 5,
  jpeg_quality: 85,
  max_width: null,
  labels: {},
  masks: [[0, 0]],
  nvision: { service: "face-detection", confidence_threshold: 0.1 },
};
const DETAIL: CameraDetail = { ...camera("lobby"), settings: SETTINGS, errors: [] };
const ACTIVE = { fps: 5, jpeg_quality: 85, max_width: null, confidence_threshold: 0.1 };

test("reads the active run-time settings from the camera's settings", () => {
  expect(activeSettings(DETAIL)).toEqual(ACTIVE);
  expect(activeSettings({ ...DETAIL, settings: { fps: 5 } })).toBeNull();
});

test("returns only changed settings", () => {
  expect(changedSettings(ACTIVE, { ...ACTIVE, fps: 2, max_width: 640 })).toEqual({ fps: 2, max_width: 640 });
  expect(changedSettings({ ...ACTIVE, max_width: 640 }, ACTIVE)).toEqual({ max_width: null });
  expect(changedSettings(ACTIVE, ACTIVE)).toEqual({});
});

test("flattens nested settings to paths", () => {
  expect(flattenSettings(SETTINGS)).toEqual([
    ["fps", "5"],
    ["jpeg_quality", "85"],
    ["max_width", "null"],
    ["masks", "[[0,0]]"],
    ["nvision.service", "face-detection"],
    ["nvision.confidence_threshold", "0.1"],
  ]);
});
