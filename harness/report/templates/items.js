"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.tasks.some((task) => task.ids.length)) return;
  const $ = (id) => document.getElementById(id);
  const ROW = 68, MARGIN = 8, MOST_CHOICES = 12;
  const state = { task: data.tasks[0], order: [], sort: null, down: false, at: 0, open: null, filters: {}, score: null };

  const text = (place) => (place === null ? "" : data.strings[place]);
  const column = (name) => state.task.columns.find((c) => c.name === name);
  const raw = (c, run, i) => (c.shared ? c.values[i] : c.values[run][i]);
  const shown = (c, run, i) => {
    const value = raw(c, run, i);
    return value === null ? "" : c.kind === "number" ? String(value) : text(value);
  };
  const make = (tag, content, attributes) => {
    const element = document.createElement(tag);
    if (content !== undefined && content !== null) element.textContent = content;
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    return element;
  };

  // What the table shows: id, what all runs share, then each run's output with its score.
  function heads() {
    const { prompt, reference } = state.task.roles;
    const found = [{ title: "item", value: (i) => text(state.task.ids[i]) }];
    for (const [title, name] of [["prompt", prompt], ["reference", reference]]) {
      const c = name && column(name);
      if (c) found.push({ title: name === title ? title : `${title} (${name})`, value: (i) => shown(c, 0, i) });
    }
    data.runs.forEach((label, run) => {
      found.push({ title: label, run, value: (i) => (state.score ? raw(state.score, run, i) : output(run, i)) });
    });
    return found;
  }
  const output = (run, i) => {
    const c = state.task.roles.output && column(state.task.roles.output);
    const failed = column("failed");
    if (failed && raw(failed, run, i) !== null) return `failed: ${shown(failed, run, i)}`;
    return c ? shown(c, run, i) : "";
  };

  const hit = (run, i) => {
    const { output: out, reference } = state.task.roles;
    return Boolean(out && reference) && output(run, i) !== "" && output(run, i) === shown(column(reference), run, i);
  };

  const haystacks = new Map();
  function haystack(task) {
    if (!haystacks.has(task)) {
      const texts = task.columns.filter((c) => c.kind === "text");
      haystacks.set(task, task.ids.map((id, i) => {
        const parts = [text(id)];
        for (const c of texts) {
          if (c.shared) parts.push(text(c.values[i]));
          else for (const row of c.values) parts.push(text(row[i]));
        }
        return parts.join("\n").toLowerCase();
      }));
    }
    return haystacks.get(task);
  }

  function differs(i) {
    if (state.score) return data.runs.some((_, run) => raw(state.score, run, i) !== raw(state.score, 0, i));
    return data.runs.some((_, run) => output(run, i) !== output(0, i));
  }

  function choose() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const hay = words.length ? haystack(state.task) : null;
    const filters = Object.entries(state.filters).filter(([, v]) => v !== "").map(([name, v]) => [column(name), Number(v)]);
    const disagree = $("disagree").checked;
    const order = [];
    for (let i = 0; i < state.task.ids.length; i++) {
      if (filters.some(([c, v]) => raw(c, 0, i) !== v)) continue;
      if (hay && !words.every((w) => hay[i].includes(w))) continue;
      if (disagree && !differs(i)) continue;
      order.push(i);
    }
    if (state.sort !== null) {
      const head = heads()[state.sort], sign = state.down ? -1 : 1;
      const keys = new Map(order.map((i) => [i, head.value(i)]));
      order.sort((a, b) => {
        const x = keys.get(a), y = keys.get(b);
        if (x === y) return a - b;
        if (x === null || x === "") return 1;
        if (y === null || y === "") return -1;
        return sign * (x < y ? -1 : 1);
      });
    }
    state.order = order;
    state.at = Math.min(state.at, Math.max(order.length - 1, 0));
    const { total, ids } = state.task;
    const part = total > ids.length ? ` (of ${total}; the others are in items/${state.task.name}.jsonl)` : "";
    $("count").textContent = `${order.length} of ${ids.length} items${part}`;
    $("window").scrollTop = 0;
    draw();
  }

  // Only the rows in sight are in the document.
  function draw(focus) {
    const view = $("window"), body = $("rows"), columns = heads();
    const first = Math.max(0, Math.floor(view.scrollTop / ROW) - MARGIN);
    const last = Math.min(state.order.length, first + Math.ceil(view.clientHeight / ROW) + 2 * MARGIN);
    const hadFocus = focus || body.contains(document.activeElement);
    const rows = [];
    const pad = (count) => {
      const row = make("tr", null, { class: "pad", "aria-hidden": "true" }), cell = make("td", null, { colspan: columns.length });
      cell.style.height = `${count * ROW}px`;
      row.append(cell);
      return row;
    };
    if (first > 0) rows.push(pad(first));
    for (let n = first; n < last; n++) {
      const i = state.order[n];
      const row = make("tr", null, {
        class: "item", "data-n": n, "aria-rowindex": n + 2, "aria-selected": String(state.open === i), tabindex: n === state.at ? "0" : "-1",
      });
      columns.forEach((head, k) => {
        const cell = make(k === 0 ? "th" : "td", null, k === 0 ? { scope: "row" } : {});
        const clip = make("div", null, { class: "clip" });
        if (head.run === undefined) clip.textContent = head.value(i);
        else {
          if (state.score) clip.append(make("span", shown(state.score, head.run, i) || "–", { class: "score" }));
          if (hit(head.run, i)) clip.append(make("span", "✓ ", { class: "hit", title: "equals the reference" }));
          clip.append(output(head.run, i));
        }
        cell.append(clip);
        row.append(cell);
      });
      rows.push(row);
    }
    if (last < state.order.length) rows.push(pad(state.order.length - last));
    body.replaceChildren(...rows);
    $("grid").setAttribute("aria-rowcount", String(state.order.length + 1));
    if (hadFocus) {
      const row = body.querySelector(`[data-n="${state.at}"]`);
      if (row) row.focus({ preventScroll: true });
    }
  }

  function move(to) {
    if (!state.order.length) return;
    state.at = Math.max(0, Math.min(state.order.length - 1, to));
    const view = $("window"), head = $("grid").tHead.offsetHeight, top = state.at * ROW;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + ROW > view.scrollTop + view.clientHeight - head) view.scrollTop = top + ROW - view.clientHeight + head;
    draw(true);
  }

  function open(i) {
    state.open = i;
    const detail = $("detail"), table = make("table");
    const head = make("tr");
    head.append(make("th", "field", { scope: "col" }), ...data.runs.map((r) => make("th", r, { scope: "col" })));
    const thead = make("thead");
    thead.append(head);
    const body = make("tbody");
    for (const c of state.task.columns) {
      const values = data.runs.map((_, run) => shown(c, run, i));
      if (values.every((v) => v === "")) continue;
      const row = make("tr");
      row.append(make("th", c.name, { scope: "row" }));
      const same = values.every((v) => v === values[0]);
      (same ? values.slice(0, 1) : values).forEach((value, run) => {
        const cell = make("td", null, same ? { colspan: data.runs.length } : {});
        if (c.kind === "audio" && value) {
          const label = `${c.name} of ${text(state.task.ids[i])}${same ? "" : `, ${data.runs[run]}`}`;
          cell.append(make("audio", null, { controls: "", preload: "none", src: value, "aria-label": label }));
        } else cell.textContent = value;
        row.append(cell);
      });
      body.append(row);
    }
    table.append(make("caption", text(state.task.ids[i])), thead, body);
    const close = make("button", "Close", { type: "button" });
    close.addEventListener("click", shut);
    detail.replaceChildren(close, table);
    detail.hidden = false;
    draw();
    detail.focus();
  }

  function shut() {
    state.open = null;
    $("detail").hidden = true;
    $("detail").replaceChildren();
    move(state.at);
  }

  function setHeads() {
    const cells = heads().map((head, k) => {
      const cell = make("th", null, { scope: "col" });
      const button = make("button", head.title, { type: "button" });
      button.addEventListener("click", () => {
        state.down = state.sort === k ? !state.down : false;
        state.sort = k;
        mark();
        choose();
      });
      cell.append(button);
      return cell;
    });
    $("heads").replaceChildren(...cells);
    mark();
  }
  function mark() {
    [...$("heads").children].forEach((cell, k) => {
      cell.setAttribute("aria-sort", state.sort !== k ? "none" : state.down ? "descending" : "ascending");
    });
  }

  function setTask(task) {
    Object.assign(state, { task, sort: null, down: false, at: 0, open: null, filters: {} });
    $("detail").hidden = true;
    const scores = task.columns.filter((c) => c.kind === "number" && (!c.shared || data.runs.length === 1));
    $("score").replaceChildren(make("option", "none", { value: "" }), ...scores.map((c) => make("option", c.name, { value: c.name })));
    state.score = scores.find((c) => c.name === task.score) || scores[0] || null;
    $("score").value = state.score ? state.score.name : "";
    const labels = [];
    for (const c of task.columns) {
      if (c.kind !== "text" || !c.shared) continue;
      const values = [...new Set(c.values)].filter((v) => v !== null);
      if (values.length < 2 || values.length > MOST_CHOICES) continue;
      const label = make("label", `${c.name} `), select = make("select", null, { "data-filter": c.name });
      select.append(make("option", "all", { value: "" }), ...values.map((v) => make("option", text(v), { value: v })));
      select.addEventListener("change", () => { state.filters[c.name] = select.value; choose(); });
      label.append(select);
      labels.push(label);
    }
    $("filters").replaceChildren(...labels);
    setHeads();
    choose();
  }

  $("task").append(...data.tasks.map((t, k) => make("option", t.name, { value: k })));
  $("task").addEventListener("change", () => setTask(data.tasks[Number($("task").value)]));
  $("search").addEventListener("input", choose);
  $("disagree").addEventListener("change", choose);
  $("score").addEventListener("change", () => { state.score = column($("score").value) || null; choose(); });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("resize", () => requestAnimationFrame(() => draw()));
  $("window").addEventListener("scroll", () => requestAnimationFrame(() => draw()));
  $("rows").addEventListener("click", (event) => {
    const row = event.target.closest("tr.item");
    if (row) { state.at = Number(row.dataset.n); open(state.order[state.at]); }
  });
  $("rows").addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor($("window").clientHeight / ROW) - 1);
    const to = { ArrowDown: state.at + 1, ArrowUp: state.at - 1, PageDown: state.at + page, PageUp: state.at - page, Home: 0, End: Infinity }[event.key];
    if (to !== undefined) { event.preventDefault(); move(to); }
    else if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(state.order[state.at]); }
  });
  $("detail").addEventListener("keydown", (event) => { if (event.key === "Escape") shut(); });
  if (data.tasks.length < 2) $("task").parentElement.hidden = true;
  if (data.runs.length < 2) $("disagree").parentElement.hidden = true;
  $("browser").hidden = false;
  setTask(data.tasks[0]);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = !d.querySelector("pre"); }));
})();
