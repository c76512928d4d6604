import { expect, test } from "vitest";
import { parsePreview } from "../src/api/preview_message";
import { header } from "./fixtures";

function message(length: number, head: Uint8Array, jpeg: Uint8Array): ArrayBuffer {
  const bytes = new Uint8Array(4 + head.length + jpeg.length);
  new DataView(bytes.buffer).setUint32(0, length);
  bytes.set(head, 4);
  bytes.set(jpeg, 4 + head.length);
  return bytes.buffer;
}

const head = new TextEncoder().encode(JSON.stringify({ ...header("a"), camera: "büro" }));
const jpeg = new Uint8Array([0xff, 0xd8, 1, 2]);

test("splits a message into header and JPEG", () => {
  const preview = parsePreview(message(head.length, head, jpeg));
  expect(preview?.header.camera).toBe("büro");
  expect([...(preview?.jpeg ?? [])]).toEqual([...jpeg]);
});

test.each([
  ["empty", new ArrayBuffer(0)],
  ["shorter than the length", new ArrayBuffer(3)],
  ["truncated header", message(head.length + 100, head, jpeg)],
  ["no JPEG", message(head.length, head, new Uint8Array())],
  ["header that is not JSON", message(3, new Uint8Array([0xff, 0xfe, 0xfd]), jpeg)],
  ["header length above the message size", message(0xffffffff, head, jpeg)],
])("rejects a message: %s", (_name, broken) => {
  expect(parsePreview(broken)).toBeNull();
});
