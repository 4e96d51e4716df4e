// Puts the drawing area into Gradio's component: siamese/studio/components/canvas.py. The component's value is the drawn mask, packed;
// a value that the server sends may also hold a photo to show below it.
import { listenToKeys } from './keyboard.js';
import { Mask } from './mask.js';
import { Panel } from './panel.js';
import { Pointers } from './pointers.js';
import { Sheet } from './sheet.js';
import * as store from './store.js';

const KEPT = 'drawing';
const SAVE_MILLISECONDS = 300;
const MODEL_SIZE = 256;

/** What the drawing needs of the rest of the page. */
const page = {
  press(id) {
    document.getElementById(id)?.click();
  },
  /** Select the image with that number; returns whether there is one. */
  showVariant(number) {
    const variant = document.querySelectorAll('#image button:has(img)')[number - 1];
    variant?.click();
    return Boolean(variant);
  },
  modelSize() {
    return Number(document.querySelector('#model [data-size]')?.dataset.size) || MODEL_SIZE;
  },
};

/** `props`, `trigger` and `watch` are those of Gradio's `js_on_load`. */
export function mount({ element, props, trigger, watch }) {
  const root = element.querySelector('.drawing');
  const stage = root.querySelector('.stage');
  const panel = new Panel(root, page);
  let saving = 0;
  let changes = 0;
  const send = (mask) => {
    root.dataset.changes = ++changes;
    props.value = mask.pack();
    trigger('input');
    if (document.querySelector('#live input')?.checked) trigger('submit'); // Live samples what is submitted
    clearTimeout(saving);
    saving = setTimeout(() => quietly(store.save(KEPT, props.value)), SAVE_MILLISECONDS);
  };
  const sheet = new Sheet(stage, Mask.unpack(props.value), {
    changed(mask, text) {
      panel.hideToast();
      panel.say(text);
      send(mask);
    },
    settled: () => panel.settle(),
    ring: () => panel.show('This is a ring. Fill it?', true),
    refuse: (text) => panel.show(text),
    say: (text) => panel.say(text),
  });
  panel.connect(sheet);
  root.querySelector('.drawing-more').open = matchMedia('(min-width: 700px)').matches; // on a phone the image comes first
  new Pointers(stage, sheet);
  listenToKeys(stage, sheet, page);
  watch('value', () => {
    receive(sheet, props.value);
    props.value = sheet.mask.pack(); // without the photo, which is the server's own
  });
  quietly(store.load(KEPT).then((kept) => {
    if (kept && !sheet.history.canUndo) sheet.replace(Mask.unpack(kept), 'The drawing of your last visit');
  }));
  followImage(sheet);
  root.drawnMask = () => sheet.mask.pack(); // for tests
  root.dataset.ready = '';
}

/** The server has put something on the canvas. */
function receive(sheet, value) {
  if (!value) return;
  if ('photo' in value) showPhoto(sheet, value.photo?.url);
  sheet.replace(Mask.unpack(value), 'The drawing has changed');
}

function showPhoto(sheet, address) {
  sheet.photoAddress = address;
  if (!address) {
    sheet.setPhoto(null);
    return;
  }
  const photo = new Image();
  photo.onload = () => {
    if (sheet.photoAddress === address) sheet.setPhoto(photo);
  };
  photo.onerror = () => sheet.listeners.refuse('The photo could not be shown. Open it again.');
  photo.src = address;
}

/** On a phone there is one square: a new image appears in the drawing's place, and a slider leads back to the mask. */
function followImage(sheet) {
  const phone = matchMedia('(max-width: 699px)');
  let shown = document.querySelector('#image img')?.src; // the example stays below
  const look = () => {
    const address = document.querySelector('#image img')?.src;
    if (!address || address === shown) return;
    shown = address;
    if (!phone.matches) return;
    const image = new Image();
    image.onload = () => sheet.setImage(image, 1);
    image.src = address;
  };
  new MutationObserver(look).observe(document.getElementById('result') ?? document.body, { childList: true, subtree: true, attributeFilter: ['src'] });
  phone.addEventListener('change', () => sheet.setImage(null, 0));
}

/** A browser that keeps nothing (a private window) is no reason to disturb a visitor. */
function quietly(promise) {
  promise.catch((error) => console.info('The drawing is not kept for the next visit:', error?.message));
}
