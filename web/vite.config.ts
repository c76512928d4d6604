import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // the page works below any path that a proxy gives it
  build: {
    outDir: "../workers/gateway/static",
    emptyOutDir: true,
    target: ["chrome123", "firefox121", "safari17.5"], // the first that know light-dark()
    assetsInlineLimit: 0, // the content security policy admits no data: addresses
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
});
