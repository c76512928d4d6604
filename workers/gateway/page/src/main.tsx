import "uplot/dist/uPlot.min.css";
import "./styles/colours.css";
import "./styles/page.css";
import "./styles/wall.css";
import "./styles/views.css";
import { render } from "preact";
import { App, start } from "./app";
import { listenToKeys } from "./look/keyboard";

const page = document.getElementById("page");
if (page !== null) {
  listenToKeys();
  start();
  render(<App />, page);
}
