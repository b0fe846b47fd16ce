// Applies the remembered theme before the page is painted. Loaded first and alone; board.js does the rest.
(function () {
  "use strict";
  document.documentElement.classList.add("js");
  try {
    var theme = localStorage.getItem("harness-theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch (error) {
    // Storage may be switched off for files; the system's theme then stands.
  }
})();
