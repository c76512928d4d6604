// All cameras at once, those in trouble first.

import { cameras, toldAt } from "../hub/fleet";
import { AddCamera } from "./add_camera";
import { ORDERS, type Order } from "./arrange";
import { Summary } from "./summary";
import { Tile } from "./tile";
import { group, onTheWall, order, SIZES, type Size, size, words } from "./wall_choices";

export function Wall() {
  const shown = onTheWall.value;
  return (
    <>
      <h1 class="unseen">Cameras</h1>
      <Summary />
      <search class="tools">
        <input
          id="filter"
          type="search"
          placeholder="Filter by name, label, state or what is seen"
          aria-label="Filter cameras"
          aria-keyshortcuts="/"
          value={words.value}
          onInput={(event) => {
            words.value = event.currentTarget.value;
          }}
        />
        <label>
          <span class="unseen">Order</span>
          <select
            value={order.value}
            onChange={(event) => {
              order.value = event.currentTarget.value as Order;
            }}
          >
            {Object.entries(ORDERS).map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        </label>
        <label>
          <span class="unseen">Size of the pictures</span>
          <select
            value={size.value}
            onChange={(event) => {
              size.value = event.currentTarget.value as Size;
            }}
          >
            {Object.entries(SIZES).map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        </label>
        <AddCamera />
      </search>
      {shown.length > 0 ? (
        <ul class={`wall wall-${size.value}`}>
          {shown.map(({ id }) => (
            <Tile key={id} id={id} />
          ))}
        </ul>
      ) : (
        <Nothing />
      )}
    </>
  );
}

function Nothing() {
  if (cameras.value.length === 0) {
    return (
      <p class="empty">{toldAt.value === null ? "Asking the hub for its cameras …" : "This hub has no cameras."}</p>
    );
  }
  return (
    <p class="empty">
      None of the {cameras.value.length} cameras is like that.{" "}
      <button
        type="button"
        class="button"
        onClick={() => {
          words.value = "";
          group.value = "all";
        }}
      >
        Show all
      </button>
    </p>
  );
}
