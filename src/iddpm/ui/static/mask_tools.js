// Other ways to give a mask than the pointer: keys, a box by its numbers, a file.

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function addMaskTools(painter) {
  addKeys(painter);
  document.getElementById("add-box").addEventListener("click", () => {
    addBox(painter);
    painter.draw();
  });
  document.getElementById("invert-mask").addEventListener("click", () => {
    painter.mask.forEach((value, k) => (painter.mask[k] = 1 - value));
    painter.draw();
  });
}

// Arrow keys move a cursor over the canvas, Shift by a brush, Space marks.
function addKeys(painter) {
  const { canvas } = painter;
  const cursor = { x: canvas.width >> 1, y: canvas.height >> 1, on: false };
  const show = () => {
    painter.draw();
    if (!cursor.on) return;
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#ffd23c";
    pen.fillRect(cursor.x, painter.wave ? 0 : cursor.y, painter.wave ? 3 : 1, painter.wave ? canvas.height : 1);
  };
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    cursor.on = true;
    const far = (event.shiftKey ? Number(painter.brush.value) : 1) * (painter.wave ? 4 : 1);
    if (move) {
      cursor.x = Math.max(0, Math.min(canvas.width - 1, cursor.x + far * move[0]));
      cursor.y = Math.max(0, Math.min(canvas.height - 1, cursor.y + far * move[1]));
    } else painter.stroke(cursor.x + 0.5, cursor.y + 0.5);
    show();
  });
  canvas.addEventListener("blur", () => {
    cursor.on = false;
    show();
  });
}

// Marks a box; an end that is left empty is that of the item. Both ends belong to it.
function addBox({ mask, size, erase }) {
  const whole = [1, 1, 1, ...size].slice(-3);
  const ends = ["d", "y", "x"].map((axis, k) => {
    const read = (end, usual) => {
      const field = document.getElementById(`box-${axis}-${end}`);
      const value = field && field.value !== "" ? Number(field.value) : usual;
      return Math.max(0, Math.min(whole[k] - 1, value));
    };
    return [read("from", 0), read("to", whole[k] - 1)];
  });
  for (let d = ends[0][0]; d <= ends[0][1]; d += 1) {
    for (let y = ends[1][0]; y <= ends[1][1]; y += 1) {
      const row = (d * whole[1] + y) * whole[2];
      mask.fill(erase.checked ? 0 : 1, row + ends[2][0], row + ends[2][1] + 1);
    }
  }
}
