import { expect, test } from "vitest";
import { caption, labelled, placed } from "../src/watching/boxes";
import { person } from "./cameras";

const SENT = { width: 1280, height: 720 };
const CANVAS = { width: 320, height: 180 };

test("a box is scaled from the picture that was sent to the canvas", () => {
  const box = placed({ left: 128, top: 72, right: 640, bottom: 360 }, SENT, CANVAS);
  expect(box).toEqual({ left: 32, top: 18, width: 128, height: 72 });
});

test("a box beyond the picture ends at its edge", () => {
  const box = placed({ left: -50, top: 700, right: 5000, bottom: 900 }, SENT, CANVAS);
  expect(box).toEqual({ left: 0, top: 175, width: 320, height: 5 });
});

test("a label is above its box, inside at the top, and never outside of the picture", () => {
  const label = { width: 60, height: 18 };
  expect(labelled({ left: 10, top: 50, width: 5, height: 5 }, label, CANVAS)).toMatchObject({ left: 10, top: 32 });
  expect(labelled({ left: 10, top: 5, width: 5, height: 50 }, label, CANVAS)).toMatchObject({ left: 10, top: 5 });
  expect(labelled({ left: 310, top: 50, width: 5, height: 5 }, label, CANVAS)).toMatchObject({ left: 260, top: 32 });
});

test("a caption says what, and how sure", () => {
  expect(caption(person(0.914))).toBe("person 91 %");
  expect(caption({ ...person(1), name: "" })).toBe("unnamed 100 %");
});
