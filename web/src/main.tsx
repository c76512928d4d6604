import "uplot/dist/uPlot.min.css";
import "./styles/colors.css";
import "./styles/base.css";
import "./styles/wall.css";
import "./styles/pages.css";
import { render } from "preact";
import { App, start } from "./app";
import { installShortcuts } from "./ui/shortcuts";

const root = document.getElementById("page");
if (root !== null) {
  installShortcuts();
  start();
  render(<App />, root);
}
