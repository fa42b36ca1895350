-- migrate:up

-- Every provider's board totals: its record now, its record when each window and the one before it began (a week and
-- two, 30 days and 60 ago), and the best runs of PROFIT among the signals closed in each. What a board shows is a
-- difference: the actor `leaderboards` computes it on the record of this moment.
CREATE VIEW provider_standings AS
SELECT s.provider_id, s.total_signals, s.follower_count AS followers,
       s.win_count + s.loss_count + s.breakeven_count AS closed, s.win_count AS wins, s.return_sum, s.current_streak,
       f.week AS week_follows, f.two_weeks AS two_weeks_follows, f.month AS month_follows,
       f.two_months AS two_months_follows,
       c.week_closed, c.week_wins, c.week_returns, c.two_weeks_closed, c.two_weeks_wins, c.two_weeks_returns,
       c.month_closed, c.month_wins, c.month_returns, c.two_months_closed, c.two_months_wins, c.two_months_returns,
       r.week_best, r.week_before_best, r.month_best, r.month_before_best, o.streak AS week_old_streak
FROM provider_stats s
CROSS JOIN LATERAL (
    SELECT coalesce(sum(delta) FILTER (WHERE at > now() - interval '7 days'), 0)::int AS week,
           coalesce(sum(delta) FILTER (WHERE at > now() - interval '14 days'), 0)::int AS two_weeks,
           coalesce(sum(delta) FILTER (WHERE at > now() - interval '30 days'), 0)::int AS month,
           coalesce(sum(delta), 0)::int AS two_months
    FROM follower_changes
    WHERE provider_id = s.provider_id AND at > now() - interval '60 days'
) f
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE closed_at > now() - interval '7 days')::int AS week_closed,
           count(*) FILTER (WHERE closed_at > now() - interval '7 days' AND status = 'PROFIT')::int AS week_wins,
           coalesce(sum(return) FILTER (WHERE closed_at > now() - interval '7 days'), 0) AS week_returns,
           count(*) FILTER (WHERE closed_at > now() - interval '14 days')::int AS two_weeks_closed,
           count(*) FILTER (WHERE closed_at > now() - interval '14 days' AND status = 'PROFIT')::int AS two_weeks_wins,
           coalesce(sum(return) FILTER (WHERE closed_at > now() - interval '14 days'), 0) AS two_weeks_returns,
           count(*) FILTER (WHERE closed_at > now() - interval '30 days')::int AS month_closed,
           count(*) FILTER (WHERE closed_at > now() - interval '30 days' AND status = 'PROFIT')::int AS month_wins,
           coalesce(sum(return) FILTER (WHERE closed_at > now() - interval '30 days'), 0) AS month_returns,
           count(*)::int AS two_months_closed,
           count(*) FILTER (WHERE status = 'PROFIT')::int AS two_months_wins,
           coalesce(sum(return), 0) AS two_months_returns
    FROM signal_outcomes
    WHERE provider_id = s.provider_id AND status <> 'PENDING' AND closed_at > now() - interval '60 days'
) c
CROSS JOIN LATERAL (
    SELECT coalesce(max(week), 0)::int AS week_best, coalesce(max(week_before), 0)::int AS week_before_best,
           coalesce(max(month), 0)::int AS month_best, coalesce(max(month_before), 0)::int AS month_before_best
    FROM (
        SELECT count(*) FILTER (WHERE closed_at > now() - interval '7 days') AS week,
               count(*) FILTER (WHERE closed_at <= now() - interval '7 days'
                                AND closed_at > now() - interval '14 days') AS week_before,
               count(*) FILTER (WHERE closed_at > now() - interval '30 days') AS month,
               count(*) FILTER (WHERE closed_at <= now() - interval '30 days') AS month_before
        FROM (
            SELECT closed_at, status, count(*) FILTER (WHERE status <> 'PROFIT') OVER (ORDER BY closed_seq) AS run
            FROM signal_outcomes
            WHERE provider_id = s.provider_id AND status <> 'PENDING' AND closed_at > now() - interval '60 days'
        ) closes
        WHERE status = 'PROFIT'
        GROUP BY run
    ) runs
) r
-- The run that was current a week ago: the signals closed before, back to the latest that was no PROFIT.
CROSS JOIN LATERAL (
    SELECT count(*)::int AS streak
    FROM signal_outcomes
    WHERE provider_id = s.provider_id AND status = 'PROFIT' AND closed_at <= now() - interval '7 days'
      AND closed_seq > coalesce((
          SELECT max(closed_seq) FROM signal_outcomes
          WHERE provider_id = s.provider_id AND status IN ('LOSS', 'BREAKEVEN')
            AND closed_at <= now() - interval '7 days'), 0)
) o;

-- Refreshed every hour by the actor, which starts from it; the windows are counted against it, and it is read while the
-- actor is unavailable.
CREATE MATERIALIZED VIEW leaderboard AS SELECT *, now() AS at FROM provider_standings;
CREATE UNIQUE INDEX leaderboard_provider ON leaderboard (provider_id);

-- migrate:down

DROP MATERIALIZED VIEW leaderboard;
DROP VIEW provider_standings;
