// Pointer events of mouse, pen and fingers become gestures of the tool that is chosen, zooms and pans.

const TAP_MILLISECONDS = 300;
const TAP_DISTANCE = 12;

/**
 * Listen to the square `stage`.
 *
 * `sheet` has `view`, `toolFor(event)`, `begin()`, `finish(text)`, `abandon()`, `viewChanged()`, `undo()`, `resizeBrush(factor)`, and
 * `hover(point or null)`.
 */
export class Pointers {
  constructor(stage, sheet) {
    this.stage = stage;
    this.sheet = sheet;
    this.fingers = new Map();
    this.gesture = null;
    this.penDown = false;
    const listen = (kind, listener, options) => stage.addEventListener(kind, (event) => listener.call(this, event), options);
    listen('pointerdown', this.down);
    listen('pointermove', this.move);
    listen('pointerup', this.up);
    listen('pointercancel', this.cancelled);
    listen('pointerleave', () => sheet.hover(null));
    listen('wheel', this.wheel, { passive: false });
    listen('contextmenu', (event) => event.preventDefault());
    for (const kind of ['gesturestart', 'gesturechange']) listen(kind, (event) => event.preventDefault()); // Safari zooms the page
  }

  /** A point of the page in CSS pixels of the square. */
  place(event) {
    const box = this.box || this.stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  down(event) {
    if (event.pointerType === 'touch' && this.penDown) return; // the hand that holds the pen
    event.preventDefault();
    this.stage.focus({ preventScroll: true });
    this.box = this.stage.getBoundingClientRect();
    this.stage.setPointerCapture(event.pointerId);
    if (event.pointerType === 'pen') {
      this.penDown = true;
      this.dropFingers();
    }
    if (event.pointerType === 'touch') {
      this.fingers.set(event.pointerId, this.place(event));
      if (this.fingers.size > 1) {
        if (this.fingers.size === 2) this.beginPinch();
        return;
      }
    }
    if (this.gesture || event.button > 1) return;
    const tool = event.button === 1 ? 'pan' : this.sheet.toolFor(event);
    this.gesture = { id: event.pointerId, tool, last: this.place(event) };
    if (tool === 'pan') return;
    this.sheet.begin();
    tool.down(this.sheet.view.toMask(this.gesture.last), { alt: event.altKey, shift: event.shiftKey, handle: event.target.dataset?.handle });
    this.sheet.paintSoon();
  }

  move(event) {
    const point = this.place(event);
    if (event.pointerType !== 'touch') this.sheet.hover(point);
    if (this.pinch && this.fingers.has(event.pointerId)) {
      this.fingers.set(event.pointerId, point);
      this.movePinch();
      return;
    }
    const { gesture } = this;
    if (!gesture || gesture.id !== event.pointerId) return;
    if (gesture.tool === 'pan') {
      this.sheet.view.pan(point.x - gesture.last.x, point.y - gesture.last.y);
      gesture.last = point;
      this.sheet.viewChanged();
      return;
    }
    // A frame may bring several events, of which the browser hands over one; the others make the line round.
    const events = event.getCoalescedEvents?.() ?? [];
    const points = (events.length ? events : [event]).map((e) => this.sheet.view.toMask(this.place(e)));
    gesture.tool.move(points, { alt: event.altKey, shift: event.shiftKey });
    this.sheet.paintSoon();
  }

  up(event) {
    this.release(event);
    const { gesture } = this;
    if (!gesture || gesture.id !== event.pointerId) return;
    this.gesture = null;
    if (gesture.tool !== 'pan') this.sheet.finish(gesture.tool.up());
  }

  cancelled(event) {
    this.release(event);
    if (this.gesture?.id === event.pointerId) this.abandon();
  }

  release(event) {
    if (event.pointerType === 'pen') this.penDown = false;
    if (!this.fingers.delete(event.pointerId) || !this.pinch) return;
    if (this.fingers.size) {
      Object.assign(this.pinch, this.spread()); // the finger that stays goes on to pan
      return;
    }
    const { began, moved } = this.pinch;
    this.pinch = null;
    if (performance.now() - began < TAP_MILLISECONDS && moved < TAP_DISTANCE) this.sheet.undo();
  }

  /** The gesture that has begun does not count. */
  abandon() {
    const { gesture } = this;
    this.gesture = null;
    if (!gesture || gesture.tool === 'pan') return;
    gesture.tool.cancel();
    this.sheet.abandon();
  }

  dropFingers() {
    if (this.fingers.has(this.gesture?.id)) this.abandon();
    this.fingers.clear();
    this.pinch = null;
  }

  beginPinch() {
    this.abandon(); // two fingers never paint
    this.pinch = { began: performance.now(), moved: 0, ...this.spread() };
  }

  movePinch() {
    const now = this.spread();
    const { centre, distance } = this.pinch;
    this.pinch.moved += Math.hypot(now.centre.x - centre.x, now.centre.y - centre.y) + Math.abs(now.distance - distance);
    this.sheet.view.pan(now.centre.x - centre.x, now.centre.y - centre.y);
    this.sheet.view.zoomAt(now.centre, now.distance / Math.max(1, distance));
    Object.assign(this.pinch, now);
    this.sheet.viewChanged();
  }

  /** Centre and distance of the first two fingers. */
  spread() {
    const [a, b] = [...this.fingers.values()];
    if (!b) return { centre: a, distance: this.pinch?.distance ?? 1 };
    return { centre: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 }, distance: Math.hypot(a.x - b.x, a.y - b.y) };
  }

  wheel(event) {
    event.preventDefault();
    this.box = this.stage.getBoundingClientRect();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const turned = -(event.deltaY || event.deltaX) * lines; // with Alt or Shift some browsers report the other axis
    if (event.altKey) {
      this.sheet.resizeBrush(turned > 0 ? 1.1 : 1 / 1.1);
      return;
    }
    this.sheet.view.zoomAt(this.place(event), Math.exp(turned / (event.ctrlKey ? 100 : 400)));
    this.sheet.viewChanged();
  }
}
