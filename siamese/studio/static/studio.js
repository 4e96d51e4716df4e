// The studio page's own script. It stands in the page's head, so it runs before Gradio's.
'use strict';

// Functions that the page's events call; see the `js` arguments in siamese/studio.
window.studioPage = {
  // Bring the images into view after a successful run: on a phone the drawing area shows them.
  revealImages() {
    if (document.querySelector('#message .done')) {
      const place = matchMedia('(max-width: 699px)').matches ? '.stage' : '#image';
      document.querySelector(place).scrollIntoView({ block: 'nearest' });
    }
  },
  // A hidden download button receives its new file a moment after the event; without a file it does nothing.
  pressSoon(id) {
    setTimeout(() => document.getElementById(id).click(), 200);
  },
};

// Names for tests of controls that Gradio makes; it has no option for them.
const TEST_IDS = { generate: '#generate', keep: '#keep', live: '#live input' };
new MutationObserver(() => {
  for (const [name, selector] of Object.entries(TEST_IDS)) {
    const element = document.querySelector(selector);
    if (element && element.dataset.testid !== name) element.dataset.testid = name;
  }
}).observe(document, { childList: true, subtree: true });

// The tab that is open stands in the address, so that Back, a reload and a bookmark lead to it.
{
  const tabs = () => [...document.querySelectorAll('#tabs [role=tab]')];
  const nameOf = (tab) => tab.textContent.trim().toLowerCase().replace(/\W+/g, '-');
  const open = () => {
    const wanted = location.hash.slice(1) || 'studio';
    const tab = tabs().find((each) => nameOf(each) === wanted);
    if (tab && tab.getAttribute('aria-selected') !== 'true') tab.click();
    return Boolean(tab);
  };
  document.addEventListener('click', (event) => {
    const tab = event.target.closest?.('#tabs [role=tab]');
    if (tab && nameOf(tab) !== (location.hash.slice(1) || 'studio')) history.pushState(null, '', `#${nameOf(tab)}`);
  });
  addEventListener('popstate', open);
  if (location.hash) {
    const wait = setInterval(() => { if (open()) clearInterval(wait); }, 100); // Gradio has not made the tabs yet
    setTimeout(() => clearInterval(wait), 20_000);
  }
}

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
