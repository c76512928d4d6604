import { expect, test } from "vitest";
import { labelText, placeLabel, scaleBox } from "../src/previews/box_layout";
import { person } from "./fixtures";

const FRAME = { width: 1280, height: 720 };
const CANVAS = { width: 320, height: 180 };

test("scales a box from the sent frame to the canvas", () => {
  const box = scaleBox({ left: 128, top: 72, right: 640, bottom: 360 }, FRAME, CANVAS);
  expect(box).toEqual({ left: 32, top: 18, width: 128, height: 72 });
});

test("clips a box at the edge of the frame", () => {
  const box = scaleBox({ left: -50, top: 700, right: 5000, bottom: 900 }, FRAME, CANVAS);
  expect(box).toEqual({ left: 0, top: 175, width: 320, height: 5 });
});

test("places a label above its box, inside at the top edge, and shifts it at the right edge", () => {
  const label = { width: 60, height: 18 };
  expect(placeLabel({ left: 10, top: 50, width: 5, height: 5 }, label, CANVAS)).toMatchObject({ left: 10, top: 32 });
  expect(placeLabel({ left: 10, top: 5, width: 5, height: 50 }, label, CANVAS)).toMatchObject({ left: 10, top: 5 });
  expect(placeLabel({ left: 310, top: 50, width: 5, height: 5 }, label, CANVAS)).toMatchObject({ left: 260, top: 32 });
});

test("labels a detection with its name and confidence", () => {
  expect(labelText(person(0.914))).toBe("person 91 %");
  expect(labelText({ ...person(1), name: "" })).toBe("unnamed 100 %");
});
