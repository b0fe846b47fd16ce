// Filters, sorting and search of tables, with their state in the address; the theme switch. Reading needs none of it.
(function () {
  "use strict";

  // ---- state in the address: "#claims.model=Med3D&claims.sort=-reported" --------------------------------------
  function readState() {
    var state = Object.create(null); // keys come from the address; none may find something inherited
    var hash = location.hash.slice(1);
    if (hash.indexOf("=") < 0) return state; // a plain anchor such as #main
    new URLSearchParams(hash).forEach(function (value, key) {
      state[key] = value;
    });
    return state;
  }

  function writeState(state, push) {
    var parts = new URLSearchParams();
    Object.keys(state).sort().forEach(function (key) {
      if (state[key]) parts.set(key, state[key]);
    });
    var hash = parts.toString();
    var url = location.pathname + location.search + (hash ? "#" + hash : "");
    try {
      history[push ? "pushState" : "replaceState"](null, "", url);
    } catch (error) {
      location.hash = hash; // browsers that allow files no other change than the fragment
    }
  }

  // ---- one table ------------------------------------------------------------------------------------------------
  function Table(table) {
    this.table = table;
    this.name = table.dataset.table;
    this.body = table.tBodies[0];
    this.rows = Array.prototype.slice.call(this.body.rows).map(function (row, place) {
      return { row: row, place: place, text: row.textContent.toLowerCase().replace(/\s+/g, " ") };
    });
    this.form = document.querySelector('form[data-for="' + this.name + '"]');
    this.count = document.querySelector('[data-count="' + this.name + '"]');
    this.empty = document.querySelector('[data-empty="' + this.name + '"]');
    this.heads = Object.create(null);
    this.makeHeads();
    if (this.form) this.makeForm();
    this.makeDownloads();
  }

  Table.prototype.key = function (name) {
    return this.name + "." + name;
  };

  Table.prototype.set = function (changes, push) {
    var state = readState();
    var self = this;
    Object.keys(changes).forEach(function (name) {
      state[self.key(name)] = changes[name];
    });
    writeState(state, push);
    applyAll();
  };

  Table.prototype.makeHeads = function () {
    var self = this;
    Array.prototype.forEach.call(this.table.tHead.rows[0].cells, function (head, column) {
      var name = head.dataset.sort;
      if (!name) return;
      var button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      self.heads[name] = { head: head, column: column };
      button.addEventListener("click", function () {
        var now = readState()[self.key("sort")] || "";
        var first = head.dataset.first === "down" ? "-" + name : name;
        var second = first === name ? "-" + name : name;
        self.set({ sort: now === first ? second : now === second ? "" : first }, true);
      });
    });
  };

  Table.prototype.makeForm = function () {
    var self = this;
    this.form.hidden = false;
    this.form.addEventListener("submit", function (event) {
      event.preventDefault();
    });
    this.form.addEventListener("change", function (event) {
      if (event.target.tagName !== "SELECT") return;
      var change = {};
      change[event.target.name] = event.target.value;
      self.set(change, true);
    });
    this.form.addEventListener("input", function (event) {
      if (event.target.type === "search") self.set({ q: event.target.value }, false);
    });
    this.form.addEventListener("reset", function (event) {
      event.preventDefault();
      var state = readState();
      Object.keys(state).forEach(function (key) {
        if (key.indexOf(self.name + ".") === 0) delete state[key];
      });
      writeState(state, true);
      applyAll();
    });
  };

  Table.prototype.apply = function (state) {
    var self = this;
    var chosen = [];
    if (this.form) {
      Array.prototype.forEach.call(this.form.elements, function (field) {
        if (!field.name) return;
        var value = state[self.key(field.name)] || "";
        if (field.value !== value) field.value = value;
        if (field.tagName === "SELECT" && value) chosen.push([field.name, value]);
      });
    }
    var words = (state[this.key("q")] || "").toLowerCase().split(/\s+/).filter(Boolean);
    var shown = 0;
    this.rows.forEach(function (entry) {
      var keep =
        chosen.every(function (pair) {
          return entry.row.dataset[pair[0]] === pair[1];
        }) &&
        words.every(function (word) {
          return entry.text.indexOf(word) >= 0;
        });
      entry.row.hidden = !keep;
      if (keep) shown += 1;
    });
    this.sort(state[this.key("sort")] || "");
    var narrowed = chosen.length > 0 || words.length > 0;
    if (this.count) {
      this.count.textContent = narrowed
        ? shown.toLocaleString("en") + " of " + this.rows.length.toLocaleString("en") + " shown"
        : this.rows.length.toLocaleString("en") + " in all";
    }
    if (this.empty) this.empty.hidden = shown > 0;
    if (this.form) {
      var reset = this.form.querySelector("[type=reset]");
      if (reset) reset.hidden = !narrowed && !state[this.key("sort")];
    }
  };

  Table.prototype.sort = function (wanted) {
    var down = wanted.charAt(0) === "-";
    var name = down ? wanted.slice(1) : wanted;
    var chosen = this.heads[name];
    Object.keys(this.heads).forEach(function (key) {
      this.heads[key].head.removeAttribute("aria-sort");
    }, this);
    var value = function (entry) {
      var cell = entry.row.cells[chosen.column];
      return cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent.trim().toLowerCase();
    };
    var order = this.rows.slice();
    if (chosen) {
      chosen.head.setAttribute("aria-sort", down ? "descending" : "ascending");
      var numeric = chosen.head.dataset.kind === "number";
      order = order
        .map(function (entry) {
          return { entry: entry, v: value(entry) };
        })
        .sort(function (a, b) {
          if (a.v === "" || b.v === "") return (a.v === "") - (b.v === "") || a.entry.place - b.entry.place;
          var sign = numeric ? a.v - b.v : a.v < b.v ? -1 : a.v > b.v ? 1 : 0;
          return (down ? -sign : sign) || a.entry.place - b.entry.place;
        })
        .map(function (pair) {
          return pair.entry;
        });
    }
    if (this.order && this.order.every(function (entry, i) { return entry === order[i]; })) return;
    var fragment = document.createDocumentFragment();
    order.forEach(function (entry) {
      fragment.appendChild(entry.row);
    });
    this.body.appendChild(fragment);
    this.order = order;
  };

  // ---- the rows shown, as a file: what the row says of itself, and the numbers of its cells ---------------------
  Table.prototype.shown = function () {
    var self = this;
    return (this.order || this.rows).filter(function (entry) {
      return !entry.row.hidden;
    }).map(function (entry) {
      var found = { id: entry.row.id };
      Object.keys(entry.row.dataset).sort().forEach(function (name) {
        found[name] = entry.row.dataset[name];
      });
      Object.keys(self.heads).forEach(function (name) {
        if (name in found) return;
        var cell = entry.row.cells[self.heads[name].column];
        var value = cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent.trim();
        var numeric = self.heads[name].head.dataset.kind === "number" && value !== "" && isFinite(value);
        found[name] = numeric ? Number(value) : value === "" || value === "\u2014" ? null : value;
      });
      return found;
    });
  };

  function asCsv(rows) {
    if (!rows.length) return "";
    var names = Object.keys(rows[0]);
    function cell(value) {
      if (value === null || value === undefined) return "";
      // A text that a spreadsheet would take for a formula gets an apostrophe before it.
      var text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? "'" + value : String(value);
      return /[",\n\r]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
    }
    return [names].concat(rows.map(function (row) {
      return names.map(function (name) { return row[name]; });
    })).map(function (row) {
      return row.map(cell).join(",") + "\n";
    }).join("");
  }

  Table.prototype.makeDownloads = function () {
    var self = this;
    var place = document.querySelector('[data-downloads="' + this.name + '"]');
    if (!place) return;
    place.hidden = false;
    place.addEventListener("click", function (event) {
      var kind = event.target.dataset.save;
      if (!kind) return;
      var rows = self.shown();
      var text = kind === "csv" ? asCsv(rows) : JSON.stringify(rows, null, 1) + "\n";
      var url = URL.createObjectURL(new Blob([text], { type: kind === "csv" ? "text/csv" : "application/json" }));
      var link = document.createElement("a");
      link.href = url;
      link.download = self.name + "." + kind;
      document.body.appendChild(link);
      link.click();
      link.remove();
      setTimeout(function () { URL.revokeObjectURL(url); }, 10000);
    });
  };

  var tables = [];

  function applyAll() {
    var state = readState();
    tables.forEach(function (table) {
      table.apply(state);
    });
  }

  // ---- theme ----------------------------------------------------------------------------------------------------
  function makeTheme() {
    var button = document.querySelector("[data-theme-switch]");
    if (!button) return;
    button.hidden = false;
    var dark = window.matchMedia("(prefers-color-scheme: dark)");
    function isDark() {
      var theme = document.documentElement.dataset.theme;
      return theme ? theme === "dark" : dark.matches;
    }
    function show() {
      button.setAttribute("aria-pressed", String(isDark()));
    }
    button.addEventListener("click", function () {
      var theme = isDark() ? "light" : "dark";
      document.documentElement.dataset.theme = theme;
      try {
        localStorage.setItem("harness-theme", theme);
      } catch (error) {
        // Not remembered; it still holds for this page.
      }
      show();
    });
    show();
  }

  // ---- copy a command -------------------------------------------------------------------------------------------
  function makeCopies() {
    Array.prototype.forEach.call(document.querySelectorAll("[data-copy]"), function (button) {
      if (!navigator.clipboard) return;
      button.hidden = false;
      button.addEventListener("click", function () {
        var text = document.getElementById(button.dataset.copy).textContent;
        navigator.clipboard.writeText(text).then(function () {
          button.textContent = "Copied";
        }, function () {
          button.textContent = "Select and copy by hand";
        });
      });
    });
  }

  tables = Array.prototype.map.call(document.querySelectorAll("table[data-table]"), function (table) {
    return new Table(table);
  });
  applyAll();
  makeTheme();
  makeCopies();
  window.addEventListener("popstate", applyAll);
  window.addEventListener("hashchange", applyAll);
})();
