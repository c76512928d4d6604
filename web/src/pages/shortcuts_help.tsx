import { Dialog } from "../components/dialog";
import { isHelpOpen, SHORTCUTS } from "../ui/shortcuts";

export function ShortcutsHelp() {
  const close = () => {
    isHelpOpen.value = false;
  };
  return (
    <Dialog label="Keyboard shortcuts" onClose={close}>
      <h2>Keyboard shortcuts</h2>
      <dl class="shortcuts">
        {SHORTCUTS.map(([key, description]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{description}</dd>
          </div>
        ))}
      </dl>
      <button type="button" class="button button-primary" onClick={close}>
        Close
      </button>
    </Dialog>
  );
}
