//! Rights against an oracle that looks at each place for itself.

use proptest::prelude::*;

use super::*;

const ENVIRONMENTS: [&str; 3] = ["prod", "staging", "test"];
const PROJECTS: [&str; 3] = ["bank", "crm", "store"];
const PERMISSIONS: [Permission; 3] =
    [Permission::DeploymentCreate, Permission::PipelineRead, Permission::PolicyUpdate];

/// A limit as somebody might write it: nothing said, or names.
type Limit = Option<BTreeSet<usize>>;

/// What somebody was given, one at a time.
type Given = Vec<(usize, Limit, Limit)>;

fn environment(index: usize) -> EnvironmentName {
    EnvironmentName::parse(ENVIRONMENTS[index]).expect("a name")
}

fn project(index: usize) -> ProjectName {
    ProjectName::parse(PROJECTS[index]).expect("a name")
}

fn limit() -> impl Strategy<Value = Limit> {
    prop::option::of(prop::collection::btree_set(0..3_usize, 1..3))
}

fn given() -> impl Strategy<Value = Given> {
    prop::collection::vec((0..3_usize, limit(), limit()), 0..6)
}

fn rights(given: &Given) -> Rights {
    let mut rights = Rights::none();
    for (permission, environments, projects) in given {
        let environments = extent(environments, environment);
        let projects = extent(projects, project);
        rights.add(PERMISSIONS[*permission], Reach { environments, projects });
    }
    rights
}

fn extent<N: Ord + Clone>(limit: &Limit, name: fn(usize) -> N) -> Extent<N> {
    limit.as_ref().map_or(Extent::All, |names| Extent::only(names.iter().copied().map(name)).expect("names"))
}

/// Whether something is allowed, at a point: the index of a name, or one of those that nobody named (`3`).
fn allowed(given: &Given, permission: usize, environment: usize, project: usize) -> bool {
    let within = |limit: &Limit, index: usize| limit.as_ref().is_none_or(|names| names.contains(&index));
    given.iter().any(|(it, environments, projects)| {
        *it == permission && within(environments, environment) && within(projects, project)
    })
}

/// Whether something is allowed at all points that a place has; `None` stands for all.
fn allowed_in(given: &Given, permission: usize, environment: Option<usize>, project: Option<usize>) -> bool {
    let points = |index: Option<usize>| index.map_or(0..4, |index| index..index + 1);
    points(environment).all(|e| points(project).all(|p| allowed(given, permission, e, p)))
}

fn every_point() -> impl Iterator<Item = (usize, usize, usize)> {
    (0..3).flat_map(|permission| (0..4).flat_map(move |e| (0..4).map(move |p| (permission, e, p))))
}

proptest! {
    #[test]
    fn a_place_is_allowed_when_all_of_it_is(given in given()) {
        let rights = rights(&given);
        for (index, permission) in PERMISSIONS.into_iter().enumerate() {
            for e in [None, Some(0), Some(1), Some(2)] {
                for p in [None, Some(0), Some(1), Some(2)] {
                    let (environment, project) = (e.map(environment), p.map(project));
                    let place = Place { environment: environment.as_ref(), project: project.as_ref() };
                    prop_assert_eq!(
                        rights.allows(permission, place),
                        allowed_in(&given, index, e, p),
                        "{} {}", permission, place
                    );
                }
            }
            prop_assert_eq!(
                rights.allows_anywhere(permission),
                every_point().any(|(it, e, p)| it == index && allowed(&given, it, e, p))
            );
            for e in 0..3 {
                prop_assert_eq!(
                    rights.allows_somewhere_in(permission, &environment(e)),
                    (0..4).any(|p| allowed(&given, index, e, p))
                );
            }
        }
    }

    #[test]
    fn covering_is_to_have_every_point_that_the_other_has(one in given(), other in given()) {
        let expected = every_point().all(|(it, e, p)| !allowed(&other, it, e, p) || allowed(&one, it, e, p));
        prop_assert_eq!(rights(&one).covers(&rights(&other)), expected);
    }

    #[test]
    fn sums_and_intersections_have_the_points_of_either_and_of_both(one in given(), other in given()) {
        let (sum, both) = (rights(&one).union(&rights(&other)), rights(&one).intersect(&rights(&other)));
        for e in 0..3 {
            for p in 0..3 {
                for (index, permission) in PERMISSIONS.into_iter().enumerate() {
                    let (environment, project) = (environment(e), project(p));
                    let place = Place::both(&environment, &project);
                    let (a, b) = (allowed(&one, index, e, p), allowed(&other, index, e, p));
                    prop_assert_eq!(sum.allows(permission, place), a || b);
                    prop_assert_eq!(both.allows(permission, place), a && b);
                }
            }
        }
        prop_assert!(rights(&one).covers(&both) && rights(&other).covers(&both));
        prop_assert!(sum.covers(&rights(&one)) && sum.covers(&rights(&other)));
    }
}

#[test]
fn several_limited_rights_together_cover_what_none_of_them_has_alone() {
    // prod is had for bank and for all but bank: by two grants, one of which is not limited to projects elsewhere.
    let own = rights(&vec![
        (0, Some(BTreeSet::from([0])), None),
        (0, None, Some(BTreeSet::from([0]))),
        (0, Some(BTreeSet::from([1, 2])), Some(BTreeSet::from([1]))),
    ]);
    assert!(own.covers(&rights(&vec![(0, None, Some(BTreeSet::from([0])))])));
    assert!(own.covers(&rights(&vec![(0, Some(BTreeSet::from([0, 1])), Some(BTreeSet::from([0, 1])))])));
    assert!(!own.covers(&rights(&vec![(0, None, Some(BTreeSet::from([1])))])), "not where nobody named it");
}
