/** Elements of the trace page. Texts are always text, never markup. */

type Child = Element | string;

/** An HTML element; attributes that are functions listen to the event of their name. */
export function make(
  tag: string,
  attributes: Readonly<Record<string, string | (() => void)>> = {},
  ...children: Child[]
) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "string") element.setAttribute(name, value);
    else element.addEventListener(name, value);
  }
  element.append(...children);
  return element;
}

/** A row of buttons of which one is pressed; `show` gets its number. */
export function choice(labels: readonly string[], show: (index: number) => void): Element {
  const buttons = labels.map((label, i) => make("button", { type: "button", click: () => press(i) }, label));
  const press = (index: number): void => {
    for (const [i, button] of buttons.entries()) button.setAttribute("aria-pressed", String(i === index));
    show(index);
  };
  queueMicrotask(() => press(0));
  return make("div", { class: "choice" }, ...buttons);
}

/** `1.23 MB`. */
export function showBytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let rest = value;
  while (rest >= 999.5 && unit < units.length - 1) {
    rest /= 1000;
    unit++;
  }
  return `${unit === 0 ? rest : rest.toPrecision(3)} ${units[unit]}`;
}
