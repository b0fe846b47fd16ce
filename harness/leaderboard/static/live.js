// Added to pages by `harness leaderboard serve` only: loads the page again when the board was built anew.
(function () {
  "use strict";
  var source = new EventSource("/events?" + document.currentScript.dataset.built);
  source.addEventListener("built", function () {
    source.close();
    location.reload();
  });
})();
