// Keys. Those of the page work unless a field has the focus; those that change the lesion only if the drawing area has it, because
// arrows scroll a page and Enter presses a button.
import { fillEllipse } from './raster.js';

const TOOLS = { l: 'lasso', b: 'brush', e: 'eraser', c: 'ellipse', v: 'move', p: 'pan' };
const SMALL = { move: 1, factor: 1.02, degrees: 1 };
const LARGE = { move: 10, factor: 1.15, degrees: 15 };
/** Keys of buttons elsewhere on the page, by the buttons' ids. */
const PRESSED = { k: 'keep' };

export function listenToKeys(stage, sheet, page) {
  addEventListener('keydown', (event) => {
    if (!stage.offsetParent || isTyping(event.target)) return; // another tab is open, or a field has the focus
    if (event.ctrlKey || event.metaKey ? withControl(event, sheet, page) : !event.altKey && plain(event, stage, sheet, page)) {
      event.preventDefault();
    }
  });
  addEventListener('keyup', (event) => {
    if (event.key === ' ') holdSpace(stage, sheet, false);
    if (event.key.toLowerCase() === 'h') sheet.setHidden(false);
  });
  addEventListener('blur', () => {
    holdSpace(stage, sheet, false);
    sheet.setHidden(false);
  });
}

/** Whether the key means something in the element that has the focus. */
function isTyping(target) {
  if (target.closest?.('[data-testid="brush-size"], [data-testid="opacity"]')) return false;
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) && target.type !== 'checkbox' && target.type !== 'radio';
}

function withControl(event, sheet, page) {
  const key = event.key.toLowerCase();
  if (key === 'z') event.shiftKey ? sheet.redo() : sheet.undo();
  else if (key === 'y') sheet.redo();
  else if (key === 'enter') page.press('generate');
  else return false;
  return true;
}

function plain(event, stage, sheet, page) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const focused = document.activeElement === stage;
  if (focused && onLesion(key, event.shiftKey, sheet)) return true;
  if (TOOLS[key]) sheet.choose(TOOLS[key]);
  else if (key === '[') sheet.resizeBrush(1 / 1.1);
  else if (key === ']') sheet.resizeBrush(1.1);
  else if (key === 'h') sheet.setHidden(true);
  else if (key === 'o') sheet.setOutlined(!sheet.painter.outlined);
  else if (key === '0') sheet.fitView();
  else if (key === ' ' && (focused || document.activeElement === document.body)) holdSpace(stage, sheet, true);
  else if (/^[1-8]$/.test(key)) return page.showVariant(Number(key));
  else if (PRESSED[key]) page.press(PRESSED[key]);
  else return false;
  return true;
}

/** Keys that change the lesion. Returns whether the key is one of them. */
function onLesion(key, isShifted, sheet) {
  const step = isShifted ? LARGE : SMALL;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (moves[key]) {
    const [right, down] = moves[key].map((direction) => direction * step.move);
    sheet.changeSelection({ right, down }, 'Moved');
  } else if (key === '+' || key === '=' || key === '-' || key === '_') {
    const factor = key === '+' || key === '=' ? step.factor : 1 / step.factor;
    sheet.changeSelection({ scaleX: factor, scaleY: factor }, factor > 1 ? 'Larger' : 'Smaller');
  } else if (key === ',' || key === '.' || key === '<' || key === '>') {
    sheet.changeSelection({ degrees: key === ',' || key === '<' ? -step.degrees : step.degrees }, 'Turned');
  } else if (key === 'Enter') {
    placeEllipse(sheet);
  } else if (key === 'n') {
    sheet.choose('move');
    sheet.listeners.say(sheet.selection.next());
    sheet.showSelection();
  } else if (key === 'Delete' || key === 'Backspace') {
    removeSelected(sheet);
  } else {
    return false;
  }
  return true;
}

/** Draw an ellipse in the middle, a quarter of the drawing wide. */
function placeEllipse(sheet) {
  const { width, height } = sheet.mask;
  const side = Math.min(width, height);
  sheet.begin();
  sheet.touch(fillEllipse(sheet.mask, { x: width / 2, y: height / 2 }, side / 6, side / 8, 1));
  sheet.finish('Ellipse placed');
}

function removeSelected(sheet) {
  const selected = sheet.selection.selected();
  if (selected.isEmpty()) return;
  const rest = sheet.mask.clone();
  for (let i = 0; i < rest.pixels.length; i++) if (selected.pixels[i]) rest.pixels[i] = 0;
  sheet.replace(rest, 'Lesion removed');
}

function holdSpace(stage, sheet, held) {
  sheet.spaceHeld = held;
  stage.classList.toggle('panning', held);
}
