// The studio page's own script. It stands in the page's head, so it runs before Gradio's.
'use strict';

// The names that a screen reader speaks for buttons whose text holds an arrow.
const TOOL_NAMES = {
  'Flip ↔': 'Flip left and right',
  'Flip ↕': 'Flip up and down',
  'Turn ↺': 'Turn left',
  'Turn ↻': 'Turn right',
  'Move ←': 'Move left',
  'Move →': 'Move right',
  'Move ↑': 'Move up',
  'Move ↓': 'Move down',
};

// Gradio creates the buttons when their accordion is opened, and has no option for an accessible name.
new MutationObserver(() => {
  for (const button of document.querySelectorAll('.tools > button:not([aria-label])')) {
    const name = TOOL_NAMES[button.textContent.trim()];
    if (name) button.setAttribute('aria-label', name);
  }
}).observe(document, { childList: true, subtree: true });

// Functions that the page's events call; see the `js` arguments in siamese/studio.
window.studioPage = {
  // On a phone the images are below the button: bring them into view after a successful run.
  revealImages() {
    if (document.querySelector('#message .done')) {
      document.getElementById('result').scrollIntoView({ block: 'nearest' });
    }
  },
  // A hidden download button receives its new file a moment after the event; without a file it does nothing.
  pressSoon(id) {
    setTimeout(() => document.getElementById(id).click(), 200);
  },
};

// A file that is dropped anywhere on the page goes to the drop zone of the drawing panel.
for (const kind of ['dragover', 'drop']) {
  addEventListener(kind, (event) => {
    if (!event.dataTransfer || !Array.from(event.dataTransfer.types).includes('Files')) return;
    if (event.target.closest && event.target.closest('#file, #batch-file')) return;
    event.preventDefault();
    event.stopPropagation();
    if (kind !== 'drop') return;
    const input = document.querySelector('#file input[type=file]');
    if (!input || !event.dataTransfer.files.length) return;
    const one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    input.files = one.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
  }, true);
}

// The editor redraws at every frame, all the time. In a browser without a graphics card that keeps the cores busy, which the sampling
// needs. So there are few frames while nobody touches anything, and a frame that came late is followed by a pause of the same length.
{
  const frame = window.requestAnimationFrame.bind(window);
  const cancel = window.cancelAnimationFrame.bind(window);
  const waiting = new Map();
  let touched = performance.now();
  let late = 0;
  let number = 0;
  for (const kind of ['pointerdown', 'pointermove', 'touchmove', 'wheel', 'keydown']) {
    addEventListener(kind, () => { touched = performance.now(); }, { capture: true, passive: true });
  }
  const timed = (draw) => {
    const requested = performance.now();
    return frame((now) => {
      const took = performance.now() - requested;
      late = took > 34 ? Math.min(took, 100) : 0;
      draw(now);
    });
  };
  window.requestAnimationFrame = (draw) => {
    const pause = performance.now() - touched < 1000 ? late : 100;
    if (!pause) return timed(draw);
    const id = -(++number);
    waiting.set(id, setTimeout(() => { waiting.delete(id); timed(draw); }, pause));
    return id;
  };
  window.cancelAnimationFrame = (id) => {
    if (waiting.has(id)) {
      clearTimeout(waiting.get(id));
      waiting.delete(id);
    } else {
      cancel(id);
    }
  };
}

// Gradio reads an event's inputs outside its own error handling: if that fails (the server refuses a drawing), nothing that follows the
// event runs, and a button that waits for it would wait for ever. This presses a hidden button, whose event enables the others again.
{
  let timer = null;
  addEventListener('unhandledrejection', (event) => {
    const rescue = document.querySelector('#rescue');
    if (!rescue) return;
    event.preventDefault();
    console.warn(event.reason);
    clearTimeout(timer);
    timer = setTimeout(() => rescue.click(), 500); // one press may cause several failures
  });
}
