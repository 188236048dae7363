// What the pages need beside htmx: live updates, keyboard, relative times. No page is lost without it.
(function () {
  "use strict";
  var base = document.body.dataset.base;
  var byId = function (id) { return document.getElementById(id); };
  var all = function (selector, root) { return Array.prototype.slice.call((root || document).querySelectorAll(selector)); };

  // --- times ---------------------------------------------------------------------------------------------------
  var UNITS = [[86400000, "d"], [3600000, "h"], [60000, "min"], [1000, "s"]];

  function length(ms) {
    ms = Math.max(0, ms);
    if (ms < 1000) return "0 s";
    for (var i = 0; i < UNITS.length; i++) {
      var size = UNITS[i][0];
      if (ms < size) continue;
      var whole = Math.floor(ms / size), next = UNITS[i + 1];
      var rest = next && whole < 10 ? Math.floor((ms % size) / next[0]) : 0;
      return whole + " " + UNITS[i][1] + (rest ? " " + rest + " " + next[1] : "");
    }
  }

  function tellTimes(root) {
    var now = Date.now();
    all("time[data-ms]", root).forEach(function (node) {
      var away = Number(node.dataset.ms) - now;
      var text = Math.abs(away) < 1000 ? "now" : away > 0 ? "in " + length(away) : length(-away) + " ago";
      if (node.textContent !== text) node.textContent = text;
    });
    all("[data-since]", root).forEach(function (node) {
      var text = length(now - Number(node.dataset.since));
      if (node.textContent !== text) node.textContent = text;
    });
  }

  // --- what the page shows, kept while it is made anew -----------------------------------------------------------
  function keeps(before) {
    if (before.nodeType !== 1) return true;
    if (before.hasAttribute("data-keep-inside")) return false;
    if (before.matches("input[data-keep], textarea[data-keep]")) return false;
    if (before === document.activeElement && before.matches("input, select, textarea")) return false;
    return true;
  }

  function stateOfRun() {
    var node = document.querySelector("#page h1 .state");
    return node ? node.textContent.trim() : "";
  }

  function morph(html) {
    var page = byId("page"), before = stateOfRun();
    Idiomorph.morph(page, html, {
      morphStyle: "innerHTML",
      callbacks: {
        beforeNodeMorphed: function (before) { return keeps(before); },
        beforeAttributeUpdated: function (name, node) { return !(name === "open" && node.tagName === "DETAILS"); }
      }
    });
    htmx.process(page);
    settle();
    if (before && stateOfRun() !== before) say("The run is now " + stateOfRun());
  }

  function settle() {
    tellTimes(document);
    tellChosen();
    if (row && !document.contains(row)) row = null;
    if (row) row.classList.add("here");
  }

  function say(text) { byId("said").textContent = text; }

  // --- live ------------------------------------------------------------------------------------------------------
  var source = null, paused = false;

  function word(state, text) {
    var live = byId("live");
    if (!live) return;
    live.dataset.state = state;
    byId("live-word").textContent = text;
  }

  function trouble(text) {
    var node = byId("trouble");
    if (!text) { node.hidden = true; node.textContent = ""; document.body.classList.remove("stale"); return; }
    var at = new Date().toLocaleTimeString();
    node.textContent = "Not up to date since " + (node.dataset.since || (node.dataset.since = at)) + ": " + text;
    node.hidden = false;
    document.body.classList.add("stale");
  }

  function close() { if (source) { source.close(); source = null; } }

  function connect() {
    close();
    var page = byId("page");
    if (!page || !window.EventSource) return;
    if (page.dataset.live !== "yes") { word("off", "not live"); retryTrouble(); return; }
    if (paused) { word("paused", "paused"); return; }
    if (document.hidden) return; // a browser takes few streams at a time: hidden pages have none
    source = new EventSource(base + "/live?at=" + encodeURIComponent(page.dataset.at) + "&seen=" + page.dataset.digest);
    source.onopen = function () { word("on", "live"); };
    source.addEventListener("page", function (event) {
      var told = JSON.parse(event.data);
      trouble(""); delete byId("trouble").dataset.since;
      page.dataset.digest = told.digest;
      morph(told.html);
      word("on", "live");
      document.dispatchEvent(new CustomEvent("redflow:updated"));
    });
    source.addEventListener("trouble", function (event) {
      word("lost", "not up to date");
      trouble(JSON.parse(event.data).text);
    });
    source.onerror = function () {
      word("lost", "reconnecting");
      if (source && source.readyState === 2) { close(); setTimeout(connect, 5000); }
    };
  }

  // A page that could not be made is asked for again by itself.
  function retryTrouble() {
    var panel = document.querySelector('#page [data-status="503"]');
    if (panel) setTimeout(function () { if (!document.hidden) reload(); else retryTrouble(); }, 3000);
  }

  function fetched(then, otherwise) {
    var at = byId("page").dataset.at;
    fetch(base + at, { headers: { "HX-Request": "true" }, credentials: "same-origin" }).then(function (answer) {
      return answer.text().then(function (html) {
        if (byId("page").dataset.at === at) then(answer, html);
      });
    }).catch(otherwise);
  }

  function reload() {
    fetched(function (answer, html) {
      var page = byId("page");
      page.dataset.live = answer.ok ? "yes" : "no";
      page.dataset.digest = "";
      morph(html);
      connect();
    }, function () { setTimeout(reload, 5000); });
  }

  // After an action: what came of it is shown at once, also while updates are stopped.
  function refresh() {
    fetched(function (answer, html) { if (answer.ok) morph(html); }, function () { /* the stream tells */ });
  }

  function toggleLive() {
    paused = !paused;
    byId("live-toggle").setAttribute("aria-pressed", String(!paused));
    say(paused ? "Updates stopped" : "Updates go on");
    connect();
  }

  // --- theme -----------------------------------------------------------------------------------------------------
  function toggleTheme() {
    var root = document.documentElement;
    var dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("redflow-theme", root.dataset.theme); } catch (error) { /* for this page only */ }
    say(root.dataset.theme + " theme");
  }

  // --- ticked runs -----------------------------------------------------------------------------------------------
  function tellChosen() {
    var bar = byId("chosen");
    if (!bar) return;
    var ticked = all('#page input[name="ids"]:checked').map(function (box) { return box.value; });
    bar.hidden = !ticked.length;
    byId("chosen-count").textContent = String(ticked.length);
    all("[data-chosen]", bar).forEach(function (button) {
      button.setAttribute("hx-vals", JSON.stringify({ ids: ticked.join(",") }));
    });
  }

  document.addEventListener("change", function (event) {
    if (event.target.id === "tick-all") {
      all('#page input[name="ids"]').forEach(function (box) { box.checked = event.target.checked; });
    }
    if (event.target.matches('input[name="ids"], #tick-all')) tellChosen();
  });

  // --- rows and keys ---------------------------------------------------------------------------------------------
  var row = null, prefix = false, prefixTimer = 0;

  function move(by) {
    var rows = all("#page tr[data-row]");
    if (!rows.length) return;
    var at = row ? rows.indexOf(row) + by : by > 0 ? 0 : rows.length - 1;
    at = Math.min(Math.max(at, 0), rows.length - 1);
    if (row) row.classList.remove("here");
    row = rows[at];
    row.classList.add("here");
    var link = row.querySelector("a.id") || row.querySelector("a");
    if (link) link.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }

  function go(letter) {
    var link = all("nav[aria-label=Screens] a").filter(function (one) {
      return one.querySelector("kbd").textContent === "g " + letter;
    })[0];
    if (link) location.href = link.href;
  }

  function openHelp() { if (!byId("help").open) byId("help").showModal(); }

  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    var inField = event.target.matches("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape" && inField) {
      // As it was: else leaving the field would be a change, and search for what was half typed.
      if (event.target.matches("form.filters input")) event.target.value = event.target.defaultValue;
      event.target.blur();
      return;
    }
    if (inField || byId("help").open) return;
    if (prefix) { prefix = false; clearTimeout(prefixTimer); go(event.key); return; }
    var key = event.key;
    if (key === "g") { prefix = true; prefixTimer = setTimeout(function () { prefix = false; }, 1500); }
    else if (key === "j" || key === "k") move(key === "j" ? 1 : -1);
    else if (key === "x" && row) {
      var box = row.querySelector("input[type=checkbox]");
      if (box) { box.checked = !box.checked; tellChosen(); }
    } else if (key === "/") {
      var search = byId("search");
      if (search) { event.preventDefault(); search.focus(); search.select(); } else location.href = base + "/runs#search";
    } else if (key === "?") openHelp();
    else if (key === "p") toggleLive();
    else if (key === "t") toggleTheme();
  });

  // --- buttons ---------------------------------------------------------------------------------------------------
  document.addEventListener("click", function (event) {
    var button = event.target.closest("button, a");
    if (!button) return;
    if (button.id === "theme") toggleTheme();
    else if (button.id === "help-open") openHelp();
    else if (button.id === "live-toggle") toggleLive();
    else if (button.dataset.copy) copy(button, document.querySelector(button.dataset.copy));
    else if (button.hasAttribute("data-dismiss")) button.closest("form").remove();
    else if (button.hash && button.hash.indexOf("#out-") === 0) {
      var target = document.querySelector(button.hash);
      if (target) target.open = true;
    }
  });

  function copy(button, node) {
    var text = node.textContent;
    var done = function () { say("Copied"); var was = button.textContent; button.textContent = "copied"; setTimeout(function () { button.textContent = was; }, 1200); };
    var select = function () { getSelection().selectAllChildren(node); say("Selected; copy it with the keyboard"); };
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, select); else select();
  }

  // --- htmx ------------------------------------------------------------------------------------------------------
  document.addEventListener("redflow:page", function (event) {
    var page = byId("page"), told = event.detail;
    page.dataset.at = told.at;
    page.dataset.digest = told.digest;
    page.dataset.live = "yes";
    document.title = told.title + " · redflow";
    row = null;
    connect();
  });
  document.addEventListener("htmx:configRequest", function (event) {
    // A form of filters sends no empty ones, so that its address can be read.
    if (event.detail.verb !== "get" || !event.detail.elt.matches("form.filters")) return;
    var kept = event.detail.parameters;
    Object.keys(kept).forEach(function (name) {
      if (kept[name] === "" || (name === "size" && kept[name] === "50")) delete kept[name];
    });
  });
  document.addEventListener("submit", function (event) {
    if (!event.target.matches("form.filters")) return;
    all("input, select", event.target).forEach(function (field) { if (!field.value) field.disabled = true; });
    setTimeout(function () { all("input, select", event.target).forEach(function (field) { field.disabled = false; }); }, 0);
  });
  document.addEventListener("htmx:afterSwap", function (event) {
    settle();
    var jobs = byId("jobs");
    if (event.target === jobs && jobs.querySelector('[data-open="yes"]')) {
      setTimeout(function () { htmx.trigger(document.body, "redflow:jobs"); }, 700);
    }
  });
  document.addEventListener("redflow:changed", function () {
    var bulk = byId("bulk");
    if (bulk) bulk.replaceChildren();
    all('#page input[name="ids"]').forEach(function (box) { box.checked = false; });
    tellChosen();
    refresh();
  });
  document.addEventListener("htmx:sendError", function () {
    byId("notice").innerHTML = '<p class="notice failed">The dashboard could not be reached; nothing is known about what became of it.</p>';
  });

  window.addEventListener("popstate", function () { location.reload(); });
  document.addEventListener("visibilitychange", function () { if (document.hidden) close(); else connect(); });
  window.addEventListener("pagehide", close);
  setInterval(function () { tellTimes(document); }, 1000);
  settle();
  connect();
})();
