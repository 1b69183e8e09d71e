// On a phone a figure's panels stand one below the other, each as wide as the screen and as high as fits.
const TOP = 4, RIGHT = 8, HEADING = 18, LEAST = 84, MOST = 260, SMALL = { size: 10.5 };
const LINE = 19, SYMBOL = 41, BETWEEN = 5, FRAME = 11; // of a legend, as plotly.js draws it
const TITLE = 24, SMALLEST = 8.9; // px: an axis's title and ticks, beside their words
const keys = (layout, kind) => Object.keys(layout).filter((key) => RegExp(`^${kind}\\d*$`).test(key));
const within = (value, [from, to]) => value >= from && value <= to;
const outside = (value, [from, to]) => Math.max(from - value, value - to, 0);

const pen = document.createElement("canvas").getContext("2d");
function widest(texts, family) {
  pen.font = `${SMALL.size}px ${family}`;
  return Math.max(0, ...texts.map((text) => pen.measureText(text.replace(/<[^>]+>/g, "")).width));
}

// Columns from the left, in each from the top: the order in which panels are read.
function panelsOf(layout) {
  const found = keys(layout, "xaxis").map((x) => {
    const y = x.replace("x", "y");
    return { x, y, across: layout[x].domain ?? [0, 1], over: layout[y].domain ?? [0, 1], legends: [] };
  });
  return found.sort((a, b) => a.across[0] - b.across[0] || b.over[1] - a.over[1]);
}

// A legend stands above the panel that it belongs to; one that belongs to all, above the first.
function legendsOf({ layout, data }, panels, room) {
  if (layout.showlegend === false) return;
  const used = new Map();
  for (const { name, showlegend, legend = "legend" } of data)
    if (name && showlegend !== false) used.set(legend, [...(used.get(legend) ?? []), name]);
  for (const [key, names] of used) {
    const own = used.size > 1 && panels.findLast((p) => within(layout[key].x, p.across));
    const longest = widest(names, layout.font.family);
    const sized = (columns) => Math.min(1, (room / columns - SYMBOL) / longest) * SMALL.size;
    const columns = [4, 3, 2].find((number) => sized(number) >= SMALLEST) ?? 1;
    const height = Math.ceil(names.length / columns) * LINE + FRAME;
    (own || panels[0]).legends.push({ key, columns, height, font: { size: sized(columns) } });
  }
}

// The words at an axis's ticks: across, those that have no room side by side stand in two lines by turns, and
// up an axis they are as small as the margin asks.
function words({ ticktext = [] }, { room, left, family }, across) {
  if (!across) return { tickfont: { size: Math.min(1, (left - TITLE) / widest(ticktext, family)) * SMALL.size } };
  if (!byTurns(ticktext, { room, family })) return { tickfont: SMALL };
  return { tickfont: SMALL, tickangle: 0, ticktext: ticktext.map((text, i) => (i % 2 ? `<br>${text}` : text)) };
}

const byTurns = (texts, { room, family }) =>
  widest(texts, family) > room / texts.length && !texts.some((text) => text.includes("<br>"));

// Moves everything in place; what refers to the paper goes with its panel. Returns the height in pixels.
function stack({ figure, cells }, width, height) {
  const { layout } = figure;
  const panels = panelsOf(layout);
  const all = [layout, ...Object.values(cells).map((cell) => cell.layout)].filter(Boolean);
  const panelOf = (note) => note.xref === "paper" && panels.filter((panel) => within(note.x, panel.across))
    .sort((a, b) => outside(note.y, a.over) - outside(note.y, b.over))[0];
  const left = Math.min(Math.max(54, 0.78 * layout.margin.l), 0.44 * width);
  const room = width - left - RIGHT;
  const space = { room, left, family: layout.font.family };
  legendsOf(figure, panels, room);
  const turns = panels.some(({ x }) => byTurns(layout[x].ticktext ?? [], space));
  const below = layout.margin.b - 4 + (turns ? LINE - 4 : 0);
  for (const panel of panels) {
    const headed = (note) => note.text && note.y >= panel.over[1] && panelOf(note) === panel;
    panel.heading = all.some((one) => one.annotations?.some(headed)) ? HEADING : 0;
    panel.above = panel.legends.reduce((sum, legend) => sum + legend.height, panel.heading);
  }
  const between = panels.reduce((sum, panel) => sum + panel.above, below * (panels.length - 1));
  const each = Math.max(LEAST, Math.min(MOST, (height - TOP - layout.margin.b - between) / panels.length));
  const inside = between + each * panels.length;
  let top = inside;
  for (const panel of panels) {
    for (const { key, columns, height, font } of panel.legends) {
      const of = (layout[key] ??= {});
      Object.assign(of, { orientation: "h", xanchor: "left", x: 0, yanchor: "top", y: top / inside, font });
      Object.assign(of, { entrywidthmode: "pixels", entrywidth: room / columns - SYMBOL - BETWEEN, tracegroupgap: 0 });
      top -= height;
    }
    top -= panel.heading;
    panel.to = [(top - each) / inside, top / inside];
    top -= each + below;
  }
  for (const one of all) {
    for (const note of one.annotations ?? []) {
      const panel = panelOf(note);
      if (!panel) continue;
      const share = Math.min(1, (note.y - panel.over[0]) / (panel.over[1] - panel.over[0]));
      Object.assign(note, { x: 0.5, y: panel.to[0] + share * (panel.to[1] - panel.to[0]) });
    }
    for (const { x, y, to } of panels) {
      const title = (axis) => ({ ...axis.title, font: SMALL });
      if (one[x]) Object.assign(one[x], { domain: [0, 1], ...words(one[x], space, true), title: title(one[x]) });
      if (one[y]) Object.assign(one[y], { domain: to, ...words(one[y], space, false), title: title(one[y]) });
    }
  }
  Object.assign(layout, { height: inside + TOP + layout.margin.b, margin: { ...layout.margin, t: TOP, r: RIGHT, l: left } });
  return layout.height;
}
