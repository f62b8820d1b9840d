use tavq_align::{AlignConfig, CostConfig, LossForm, MapConfig, SamplerConfig, TargetMasses, TransportValue};

#[test]
fn a_file_sets_what_it_names_and_keeps_the_defaults() {
    let text = r#"{"cost": {"kind": "squared_euclidean"}, "sampler": {"kind": "subset", "count": 32}, "map": {"kind": "hidden", "width": 128},
        "target": "counts", "epsilon": 0.1, "value": "entropic", "form": "contrastive", "temperature": 0.2}"#;
    let config: AlignConfig = serde_json::from_str(text).unwrap();
    let expected = AlignConfig {
        cost: CostConfig::SquaredEuclidean {},
        sampler: SamplerConfig::Subset { count: 32 },
        map: MapConfig::Hidden { width: 128 },
        target: TargetMasses::Counts,
        epsilon: 0.1,
        value: TransportValue::Entropic,
        form: LossForm::Contrastive,
        temperature: 0.2,
        ..AlignConfig::default()
    };
    assert_eq!(config, expected);
    config.check("align").unwrap();
    assert_eq!(serde_json::from_str::<AlignConfig>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    assert_eq!(serde_json::from_str::<AlignConfig>("{}").unwrap(), AlignConfig::default());
    AlignConfig::default().check("align").unwrap();
}

#[test]
fn unknown_keys_are_refused_everywhere() {
    let cases = [
        r#"{"epsilonn": 0.1}"#,
        r#"{"cost": {"kind": "cosine", "power": 2}}"#,
        r#"{"cost": {"kind": "manhattan"}}"#,
        r#"{"sampler": {"kind": "all", "count": 3}}"#,
        r#"{"sampler": {"kind": "subset", "count": 3, "seed": 1}}"#,
        r#"{"sampler": {"kind": "subset"}}"#,
        r#"{"map": {"kind": "linear", "width": 3}}"#,
        r#"{"form": "both"}"#,
    ];
    for text in cases {
        assert!(serde_json::from_str::<AlignConfig>(text).is_err(), "{text} was accepted");
    }
}

#[test]
fn values_out_of_range_name_their_path() {
    let with = |change: fn(&mut AlignConfig)| {
        let mut config = AlignConfig::default();
        change(&mut config);
        config.check("align").unwrap_err().to_string()
    };
    assert_eq!(with(|c| c.epsilon = 0.0), "align.epsilon: expected a number above 0, found 0");
    assert!(with(|c| c.tolerance = f64::NAN).starts_with("align.tolerance"));
    assert!(with(|c| c.max_iterations = 0).starts_with("align.max_iterations"));
    assert!(with(|c| c.temperature = -1.0).starts_with("align.temperature"));
    assert!(with(|c| c.sampler = SamplerConfig::Subset { count: 0 }).starts_with("align.sampler.count"));
    assert!(with(|c| c.map = MapConfig::Hidden { width: 0 }).starts_with("align.map.width"));
}
