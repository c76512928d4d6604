import { expect, test } from "vitest";
import { preview } from "../src/hub/preview";
import { header } from "./cameras";

function message(length: number, head: Uint8Array, jpeg: Uint8Array): ArrayBuffer {
  const whole = new Uint8Array(4 + head.length + jpeg.length);
  new DataView(whole.buffer).setUint32(0, length);
  whole.set(head, 4);
  whole.set(jpeg, 4 + head.length);
  return whole.buffer;
}

const head = new TextEncoder().encode(JSON.stringify({ ...header("a"), camera: "büro" }));
const jpeg = new Uint8Array([0xff, 0xd8, 1, 2]);

test("a message is its header and its JPEG", () => {
  const found = preview(message(head.length, head, jpeg));
  expect(found?.header.camera).toBe("büro");
  expect([...(found?.jpeg ?? [])]).toEqual([...jpeg]);
});

test.each([
  ["nothing", new ArrayBuffer(0)],
  ["less than a length", new ArrayBuffer(3)],
  ["cut short", message(head.length + 100, head, jpeg)],
  ["no picture", message(head.length, head, new Uint8Array())],
  ["no JSON", message(3, new Uint8Array([0xff, 0xfe, 0xfd]), jpeg)],
  ["a length beyond all bounds", message(0xffffffff, head, jpeg)],
])("a message that is none is nothing: %s", (_name, broken) => {
  expect(preview(broken)).toBeNull();
});
